// The blocks of the types of few bits that need no grid: Q2_K, Q3_K, IQ4_XS, the ternary types and the floats of four
// bits (source_block.h).
#pragma once

#include "base/float16.h"
#include "ops/linear/source_block.h"

namespace kvass {

// The float32 scale of a superblock, lane `lane` of a cell's header.
inline void store_scale(float d, int lane, uint8_t* cell) { std::memcpy(cell + lane * 4, &d, 4); }
inline float load_half(const uint8_t* bytes) { return f16_to_float(load_word<uint16_t>(bytes)); }

// The sub-scale of block `sub`, of its half h where one covers 16 elements.
inline void store_sub_scale(int scale, int index, int lane, uint8_t* cell) {
  cell[kSubScaleOffset + index * kPanelOutputs + lane] = static_cast<uint8_t>(scale);
}

// Of each 128 elements 32 bytes with 2 bits for each 32.
inline Quants two_bit_quants(const uint8_t* bytes, int sub) {
  Quants out;
  for (int g = 0; g < 8; ++g) {
    out.words[g] = load_word<uint32_t>(bytes + sub / 4 * 32 + 4 * g) >> sub % 4 * 2 & 0x03030303u;
  }
  return out;
}

// 16 bytes with a scale and a minimum of 4 bits, 2 bits of all elements, f16 scale and minimum.
template <>
struct SourceBlock<WeightType::Q2_K> {
  static Quants quants(const uint8_t* block, int sub) { return two_bit_quants(block + 16, sub); }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    std::memcpy(cell + lane * 2, block + 80, 2);
    std::memcpy(cell + kSuperMinimumOffset + lane * 2, block + 82, 2);
    for (int half = 0; half < 2; ++half) store_sub_scale(block[sub * 2 + half], sub * 2 + half, lane, cell);
  }
};

// Third bits in 32 bytes, bit `sub` for block `sub`, 2 bits of all elements, 16 scales of 6 bits in 12 bytes (four
// bits, low ones for the first 8, then two of each), which are 32 too large; f16 scale.
template <>
struct SourceBlock<WeightType::Q3_K> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out = two_bit_quants(block + 32, sub);
    for (int g = 0; g < 8; ++g) out.words[g] |= (load_word<uint32_t>(block + 4 * g) >> sub & 0x01010101u) << 2;
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    store_scale(load_half(block + 108), lane, cell);
    const uint8_t* packed = block + 96;
    for (int i = sub * 2; i < sub * 2 + 2; ++i) {
      const int low = packed[i % 8] >> i / 8 * 4 & 15, high = packed[8 + i % 4] >> i / 4 * 2 & 3;
      store_sub_scale((low | high << 4) - 32, i, lane, cell);
    }
  }
};

// f16 scale; 8 scales of 6 bits, 32 too large: their two high bits in 2 bytes, the others in 4; nibbles of each 32.
template <>
struct SourceBlock<WeightType::IQ4_XS> {
  static Quants quants(const uint8_t* block, int sub) { return nibble_quants(block + 8 + sub * 16); }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    store_scale(load_half(block), lane, cell);
    const int low = block[4 + sub / 2] >> sub % 2 * 4 & 15, high = load_word<uint16_t>(block + 2) >> sub * 2 & 3;
    store_sub_scale((low | high << 4) - 32, sub, lane, cell);
  }
};

// 2 bits of all elements, f16 scale.
template <>
struct SourceBlock<WeightType::TQ2_0> {
  static Quants quants(const uint8_t* block, int sub) { return two_bit_quants(block, sub); }
  static void scales(const uint8_t* block, int, int lane, uint8_t* cell) {
    store_scale(load_half(block + 64), lane, cell);
  }
};

// Bytes of five digits of base 3, the first digit the highest of 256 / 243 of the number: 32 bytes for 160 elements and
// 16 for 80, digit by digit, and 4 with four digits for the last 16; f16 scale.
template <>
struct SourceBlock<WeightType::TQ1_0> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    for (int g = 0; g < 8; ++g) out.words[g] = four_digits(block, sub * 32 + g * 4);
    return out;
  }
  static void scales(const uint8_t* block, int, int lane, uint8_t* cell) {
    store_scale(load_half(block + 52), lane, cell);
  }

 private:
  // Elements [first, first + 4): the same digit of four neighbouring bytes.
  static uint32_t four_digits(const uint8_t* block, int first) {
    static constexpr int kPowers[5] = {1, 3, 9, 27, 81};
    const int run = first < 160 ? 32 : first < 240 ? 16 : 4;  // bytes
    const int in_run = first - (first < 160 ? 0 : first < 240 ? 160 : 240);
    const uint8_t* bytes = block + (first < 160 ? 0 : first < 240 ? 32 : 48) + in_run % run;
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) {
      const auto rest = static_cast<uint8_t>(bytes[i] * kPowers[in_run / run]);
      word |= static_cast<uint32_t>(rest * 3 >> 8) << 8 * i;
    }
    return word;
  }
};

// The exponent of the scale, a power of two from 2^-128 on, which is a bf16; nibbles.
template <>
struct SourceBlock<WeightType::MXFP4> {
  static Quants quants(const uint8_t* block, int) { return nibble_quants(block + 1); }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    const int exponent = block[0];  // 0 and 1 stand for subnormal numbers
    const auto bits = static_cast<uint16_t>(exponent < 2 ? 0x20 << exponent : (exponent - 1) << 7);
    std::memcpy(cell + (sub * kPanelOutputs + lane) * 2, &bits, 2);
  }
};

// Four scales of e4m3, of which one without a number is zero and a sign means nothing; of each 16 elements 8 bytes of
// nibbles.
template <>
struct SourceBlock<WeightType::NVFP4> {
  static Quants quants(const uint8_t* block, int sub) {
    Quants out;
    for (int g = 0; g < 8; ++g) {
      const uint32_t nibbles = load_word<uint32_t>(block + 4 + sub * 16 + g / 4 * 8 + g % 2 * 4);
      out.words[g] = nibbles >> g % 4 / 2 * 4 & 0x0f0f0f0fu;
    }
    return out;
  }
  static void scales(const uint8_t* block, int sub, int lane, uint8_t* cell) {
    for (int i = sub * 2; i < sub * 2 + 2; ++i) {
      cell[i * kPanelOutputs + lane] = block[i] == 0x7f ? 0 : block[i] & 0x7f;
    }
  }
};

}  // namespace kvass
