// The types of weights from their definitions (ggml's block layouts), one element at a time: what packing and kernels
// are compared with. The grids of the IQ types are the library's, which other tests compare with gguf-py's.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/float16.h"
#include "ops/linear/iq_grids.h"
#include "ops/linear/weight.h"

namespace kvass::testing {

inline float f16_at(const uint8_t* p) { return f16_to_float(static_cast<uint16_t>(p[0] | p[1] << 8)); }

// Code i of a grid's entry; whether element i of eight is negative, by seven signs whose eighth makes them even.
template <class Entry>
int code(Entry entry, int i) {
  return static_cast<int>(entry >> 8 * i & 255);
}
inline bool parity_sign(uint32_t signs, int i) {
  return i < 7 ? (signs >> i & 1) != 0 : std::popcount(signs & 127) % 2 != 0;
}
inline constexpr float kIq2Magnitudes[] = {8, 25, 43};

// Weight k of a row in the file.
inline float defined_weight(WeightType type, const uint8_t* row, int64_t k) {
  const int64_t count = panel_format(type).k_multiple();
  const uint8_t* block = row + source_row_bytes(type, k / count * count);
  const int j = static_cast<int>(k % count);
  // 4-bit and 5-bit types of 32: the element's nibble, and its bit in a 32-bit word.
  const auto nibble = [&](const uint8_t* qs) { return j < 16 ? qs[j] & 15 : qs[j - 16] >> 4; };
  const auto bit = [&](const uint8_t* qh) { return qh[j / 8] >> (j % 8) & 1; };
  switch (type) {
    case WeightType::F32: {
      float value;
      std::memcpy(&value, block, 4);
      return value;
    }
    case WeightType::F16:
      return f16_at(block);
    case WeightType::BF16:
      return bf16_to_float(static_cast<uint16_t>(block[0] | block[1] << 8));
    case WeightType::Q8_0:
    case WeightType::Q8_0_split:
      return f16_at(block) * static_cast<float>(static_cast<int8_t>(block[2 + j]));
    case WeightType::Q4_0:
      return f16_at(block) * static_cast<float>(nibble(block + 2) - 8);
    case WeightType::Q4_1:
      return f16_at(block) * static_cast<float>(nibble(block + 4)) + f16_at(block + 2);
    case WeightType::Q5_0:
      return f16_at(block) * static_cast<float>((nibble(block + 6) | bit(block + 2) << 4) - 16);
    case WeightType::Q5_1:
      return f16_at(block) * static_cast<float>(nibble(block + 8) | bit(block + 4) << 4) + f16_at(block + 2);
    case WeightType::Q4_K:
    case WeightType::Q5_K: {
      const int sub = j / 32;
      const uint8_t* s = block + 4;
      const int sc = sub < 4 ? s[sub] & 63 : (s[sub + 4] & 15) + (s[sub - 4] >> 6) * 16;
      const int m = sub < 4 ? s[sub + 4] & 63 : (s[sub + 4] >> 4) + (s[sub] >> 6) * 16;
      const uint8_t* qs = block + (type == WeightType::Q4_K ? 16 : 48);
      const uint8_t byte = qs[j / 64 * 32 + j % 32];
      int q = sub % 2 == 0 ? byte & 15 : byte >> 4;
      if (type == WeightType::Q5_K) q += (block[16 + j % 32] >> sub & 1) * 16;
      return (f16_at(block) * static_cast<float>(sc)) * static_cast<float>(q) -
             f16_at(block + 2) * static_cast<float>(m);
    }
    case WeightType::IQ4_NL: {
      const float values[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
      return f16_at(block) * values[nibble(block + 2)];
    }
    case WeightType::Q2_K: {
      const int sc = block[j / 16], q = block[16 + j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3;
      return (f16_at(block + 80) * static_cast<float>(sc & 15)) * static_cast<float>(q) -
             f16_at(block + 82) * static_cast<float>(sc >> 4);
    }
    case WeightType::Q3_K: {
      const int s = j / 16, low = block[96 + s % 8] >> s / 8 * 4 & 15, high = block[104 + s % 4] >> s / 4 * 2 & 3;
      int q = block[32 + j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3;
      if ((block[j % 32] >> j / 32 & 1) == 0) q -= 4;
      return (f16_at(block + 108) * static_cast<float>(low + high * 16 - 32)) * static_cast<float>(q);
    }
    case WeightType::IQ4_XS: {
      const float values[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
      const int s = j / 32, low = block[4 + s / 2] >> s % 2 * 4 & 15;
      const int high = (block[2] | block[3] << 8) >> s * 2 & 3;
      const uint8_t byte = block[8 + s * 16 + j % 16];
      return (f16_at(block) * static_cast<float>(low + high * 16 - 32)) * values[j % 32 < 16 ? byte & 15 : byte >> 4];
    }
    case WeightType::TQ2_0:
      return f16_at(block + 64) * static_cast<float>((block[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3) - 1);
    case WeightType::TQ1_0: {
      const int powers[] = {1, 3, 9, 27, 81};
      const uint8_t byte = j < 160 ? block[j % 32] : j < 240 ? block[32 + j % 16] : block[48 + j % 4];
      const int digit = j < 160 ? j / 32 : j < 240 ? (j - 160) / 16 : (j - 240) / 4;
      return f16_at(block + 52) * static_cast<float>(((byte * powers[digit] & 255) * 3 >> 8) - 1);
    }
    case WeightType::MXFP4: {
      const float values[] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
      return std::ldexp(1.0f, block[0] - 128) * values[nibble(block + 1)];
    }
    case WeightType::NVFP4: {
      const float values[] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
      const int e4m3 = block[j / 16], exponent = e4m3 >> 3 & 15;
      const uint8_t byte = block[4 + j / 16 * 8 + j % 8];
      const int mantissa = (exponent == 0 ? 0 : 8) + (e4m3 & 7);
      const float scale = e4m3 == 0x7f ? 0.0f : std::ldexp(static_cast<float>(mantissa), std::max(exponent, 1) - 11);
      return scale * values[j % 16 < 8 ? byte & 15 : byte >> 4];
    }
    case WeightType::IQ3_XXS: {
      const float values[] = {4, 12, 20, 28, 36, 44, 52, 62};
      const uint8_t* aux = block + 66 + j / 32 * 4;
      const uint32_t word = aux[0] | aux[1] << 8 | aux[2] << 16 | static_cast<uint32_t>(aux[3]) << 24;
      const float value = values[code(kIq3XxsGrid[block[2 + j / 4]], j % 4)];
      return f16_at(block) * (0.5f + static_cast<float>(word >> 28)) * 0.5f *
             (parity_sign(word >> j % 32 / 8 * 7, j % 8) ? -value : value);
    }
    case WeightType::IQ3_S: {
      const size_t index = static_cast<size_t>(block[2 + j / 4] | (block[66 + j / 32] >> j % 32 / 4 & 1) << 8);
      const float value = static_cast<float>(2 * code(kIq3SGrid[index], j % 4) + 1);
      const int s = block[106 + j / 64] >> j / 32 % 2 * 4 & 15;
      return f16_at(block) * static_cast<float>(1 + 2 * s) * ((block[74 + j / 8] >> j % 8 & 1) != 0 ? -value : value);
    }
    case WeightType::IQ2_XXS: {
      const uint8_t* part = block + 2 + j / 32 * 8;
      const uint32_t word = part[4] | part[5] << 8 | part[6] << 16 | static_cast<uint32_t>(part[7]) << 24;
      const float value = kIq2Magnitudes[code(kIq2XxsGrid[part[j % 32 / 8]], j % 8)];
      return f16_at(block) * (0.5f + static_cast<float>(word >> 28)) * 0.25f *
             (parity_sign(word >> j % 32 / 8 * 7, j % 8) ? -value : value);
    }
    case WeightType::IQ2_XS: {
      const int word = block[2 + j / 8 * 2] | block[3 + j / 8 * 2] << 8;
      const float value = kIq2Magnitudes[code(kIq2XsGrid[static_cast<size_t>(word & 511)], j % 8)];
      const int s = block[66 + j / 32] >> j / 16 % 2 * 4 & 15;
      return f16_at(block) * (0.5f + static_cast<float>(s)) * 0.25f *
             (parity_sign(static_cast<uint32_t>(word >> 9), j % 8) ? -value : value);
    }
    case WeightType::IQ2_S: {
      const size_t index = static_cast<size_t>(block[2 + j / 8] | (block[66 + j / 32] >> j % 32 / 8 * 2 & 3) << 8);
      const float value = kIq2Magnitudes[code(kIq2SGrid[index], j % 8)];
      const int s = block[74 + j / 32] >> j / 16 % 2 * 4 & 15;
      return f16_at(block) * (0.5f + static_cast<float>(s)) * 0.25f *
             ((block[34 + j / 8] >> j % 8 & 1) != 0 ? -value : value);
    }
    case WeightType::IQ1_S: {
      const int word = block[34 + j / 32 * 2] | block[35 + j / 32 * 2] << 8;
      const size_t index = static_cast<size_t>(block[2 + j / 8] | (word >> j % 32 / 8 * 3 & 7) << 8);
      const float value = static_cast<float>(code(kIq1Grid[index], j % 8)) - 1;
      return f16_at(block) * static_cast<float>(2 * (word >> 12 & 7) + 1) *
             (value + (word >> 15 != 0 ? -0.125f : 0.125f));
    }
    case WeightType::IQ1_M: {
      const uint8_t* words = block + 48;
      const int d = words[1] >> 4 | (words[3] & 0xf0) | (words[5] & 0xf0) << 4 | (words[7] & 0xf0) << 8;
      const int s = (words[j / 64 * 2] | words[j / 64 * 2 + 1] << 8) >> j / 16 % 4 * 3 & 7;
      const int high = block[32 + j / 16] >> j / 8 % 2 * 4;
      const size_t index = static_cast<size_t>(block[j / 8] | (high & 7) << 8);
      const float value = static_cast<float>(code(kIq1Grid[index], j % 8)) - 1;
      return f16_to_float(static_cast<uint16_t>(d)) * static_cast<float>(2 * s + 1) *
             (value + ((high & 8) != 0 ? -0.125f : 0.125f));
    }
    case WeightType::Q6_K: {
      const int half = j / 128, quarter = j % 128 / 32, l = j % 32;
      const uint8_t low = block[half * 64 + (quarter % 2) * 32 + l];
      const int q = (quarter < 2 ? low & 15 : low >> 4) + (block[128 + half * 32 + l] >> (2 * quarter) & 3) * 16 - 32;
      return (f16_at(block + 208) * static_cast<float>(static_cast<int8_t>(block[192 + j / 16]))) *
             static_cast<float>(q);
    }
  }
  return 0;
}

}  // namespace kvass::testing
