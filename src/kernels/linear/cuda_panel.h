// A panel of packed weights as device threads read it: the quants of a block of one output as eight words of four
// signed bytes each, their offset taken off, and the block's scales. The format is panel_format.h; this is device code
// (device/code.h) and owns nothing.
#pragma once

#include "device/lane.h"
#include "kernels/linear/panel_format.h"

namespace kvass::KVASS_DEVICE {

// What stored quants mean where the format has values: two words of eight bytes, for the type of a launch.
struct ValueBytes {
  uint64_t first = 0, last = 0;
};

// Output `lane` of one panel.
template <WeightType kType>
struct Panel {
  static constexpr PanelFormat kFormat = panel_format(kType);
  static constexpr int kCellBlocks = kFormat.quantised ? kFormat.cell_blocks : 1;
  static constexpr int kCellBytes = kFormat.cell_bytes();
  static constexpr int kScales = kFormat.scale_block == 16 ? 2 : 1;  // of a block

  static constexpr bool kHalfMinima = kFormat.minimum && kScales == 2;

  const uint8_t* bytes;
  int lane;
  ValueBytes values;

  KVASS_METHOD const uint8_t* cell(int64_t b) const { return bytes + b / kCellBlocks * kCellBytes; }

  // words [8]: k's 4 g to 4 g + 3 of the block in word g.
  KVASS_METHOD void quants(int64_t b, uint32_t* words) const {
    const uint8_t* block = cell(b) + kFormat.header_bytes + b % kCellBlocks * kFormat.block_bytes;
    const uint32_t* groups = reinterpret_cast<const uint32_t*>(block) + lane;
    constexpr int kGroupWords = kGroupBytes / 4;
    if constexpr (kFormat.bits == 8) {
      KVASS_UNROLL
      for (int g = 0; g < 8; ++g) words[g] = groups[g * kGroupWords];
    } else if constexpr (kFormat.low_bits() == 2) {
      two_bits(groups, words);
    } else {
      KVASS_UNROLL
      for (int g = 0; g < 4; ++g) {
        const uint32_t word = groups[g * kGroupWords];
        words[g] = word & 0x0f0f0f0fu;
        words[g + 4] = word >> 4 & 0x0f0f0f0fu;
      }
    }
    const uint32_t* high = groups + kFormat.high_bits_offset() / 4;
    if constexpr (kFormat.bits == 5 || kFormat.bits == 3) {
      const uint32_t highest = high[0];
      KVASS_UNROLL
      for (int g = 0; g < 8; ++g) words[g] |= (highest >> g & 0x01010101u) << kFormat.low_bits();
    }
    if constexpr (kFormat.bits == 6) {
      uint32_t more[8];
      two_bits(high, more);
      KVASS_UNROLL
      for (int g = 0; g < 8; ++g) words[g] |= more[g] << 4;
    }
    KVASS_UNROLL
    for (int g = 0; g < 8; ++g) words[g] = as_signed(words[g]);
  }

  // Words g and g + 4 alone, g below 4.
  KVASS_METHOD void two_quants(int64_t b, int g, uint32_t& first, uint32_t& second) const {
    const uint8_t* block = cell(b) + kFormat.header_bytes + b % kCellBlocks * kFormat.block_bytes;
    const uint32_t* groups = reinterpret_cast<const uint32_t*>(block) + lane;
    constexpr int kGroupWords = kGroupBytes / 4;
    if constexpr (kFormat.low_bits() == 2) {
      first = groups[0] >> 2 * g & 0x03030303u;
      second = groups[kGroupWords] >> 2 * g & 0x03030303u;
    } else {
      first = groups[g * kGroupWords];
      if constexpr (kFormat.bits == 8) {
        second = groups[(g + 4) * kGroupWords];
      } else {
        second = first >> 4 & 0x0f0f0f0fu;
        first &= 0x0f0f0f0fu;
      }
    }
    const uint32_t* high = groups + kFormat.high_bits_offset() / 4;
    if constexpr (kFormat.bits == 5 || kFormat.bits == 3) {
      const uint32_t highest = high[0];
      first |= (highest >> g & 0x01010101u) << kFormat.low_bits();
      second |= (highest >> (g + 4) & 0x01010101u) << kFormat.low_bits();
    }
    if constexpr (kFormat.bits == 6) {
      first |= (high[0] >> 2 * g & 0x03030303u) << 4;
      second |= (high[kGroupWords] >> 2 * g & 0x03030303u) << 4;
    }
    first = as_signed(first);
    second = as_signed(second);
  }

  // The scale of block b, of its half h where a scale covers 16 k's.
  KVASS_METHOD float scale(int64_t b, int h) const {
    const uint8_t* header = cell(b);
    const int64_t sub = b % kCellBlocks;
    const int64_t index = (kScales == 2 ? sub * 2 + h : sub) * kPanelOutputs + lane;
    if constexpr (kFormat.scales == Scales::f16) {
      return half(header, index);
    } else if constexpr (kFormat.scales == Scales::bf16) {
      return bf16_to_float(reinterpret_cast<const uint16_t*>(header)[index]);
    } else if constexpr (kFormat.scales == Scales::e4m3) {
      return mul_rn(float_from_bits(static_cast<uint32_t>(header[index]) << 20), kE4m3Unit);
    } else if constexpr (kFormat.scales == Scales::one) {
      return reinterpret_cast<const float*>(header)[lane];
    } else {
      const uint8_t sc = header[kSubScaleOffset + index];
      if constexpr (kFormat.scales == Scales::bytes) {
        return mul_rn(reinterpret_cast<const float*>(header)[lane], static_cast<float>(static_cast<int8_t>(sc)));
      } else if constexpr (kFormat.scales == Scales::k_nibbles) {
        return mul_rn(half(header, lane), static_cast<float>(sc & 15));
      } else if constexpr (kFormat.minimum) {
        return mul_rn(half(header, lane), static_cast<float>(sc));
      } else {
        return mul_rn(half(header, lane), static_cast<float>(static_cast<int8_t>(sc)));
      }
    }
  }

  // What is subtracted from every weight of block b, of its half h where a minimum covers 16 k's: dmin m, or −m.
  KVASS_METHOD float minimum(int64_t b, int h) const {
    const uint8_t* header = cell(b);
    const int64_t sub = b % kCellBlocks;
    if constexpr (kFormat.scales == Scales::f16) {
      return -half(header + kMinimumOffset, sub * kPanelOutputs + lane);
    } else {
      const float dmin = half(header + kSuperMinimumOffset, lane);
      if constexpr (kFormat.scales == Scales::k_nibbles) {
        return mul_rn(dmin, static_cast<float>(header[kSubScaleOffset + (sub * 2 + h) * kPanelOutputs + lane] >> 4));
      } else {
        return mul_rn(dmin, static_cast<float>(header[kSubMinimumOffset + sub * kPanelOutputs + lane]));
      }
    }
  }

  // Quant i of a block's words as a float.
  KVASS_METHOD static float quant(const uint32_t* words, int i) {
    return static_cast<float>(static_cast<int8_t>(words[i / 4] >> (i % 4 * 8)));
  }

  // A weight of a float type.
  KVASS_METHOD float element(int64_t k) const {
    const int64_t index = k * kPanelOutputs + lane;
    if constexpr (kType == WeightType::F32) {
      return reinterpret_cast<const float*>(bytes)[index];
    } else {
      const uint16_t bits = reinterpret_cast<const uint16_t*>(bytes)[index];
      return kType == WeightType::F16 ? f16_to_float(bits) : bf16_to_float(bits);
    }
  }

 private:
  // Two bits of each quant of the block: of groups 0 to 3 in one word, of 4 to 7 in the next.
  KVASS_METHOD static void two_bits(const uint32_t* from, uint32_t* words) {
    const uint32_t halves[2] = {from[0], from[kGroupBytes / 4]};
    KVASS_UNROLL
    for (int g = 0; g < 8; ++g) words[g] = halves[g / 4] >> (g % 4 * 2) & 0x03030303u;
  }

  KVASS_METHOD uint32_t look_up(uint32_t word) const {
    uint32_t out = 0;
    KVASS_UNROLL
    for (int byte = 0; byte < 4; ++byte) {
      const uint32_t index = word >> 8 * byte & 15u;
      const uint64_t eight = index & 8u ? values.last : values.first;
      out |= static_cast<uint32_t>(eight >> 8 * (index & 7u) & 255u) << 8 * byte;
    }
    return out;
  }

  // No byte borrows from its neighbour: 128 is added before and taken off after.
  KVASS_METHOD uint32_t as_signed(uint32_t word) const {
    if constexpr (kFormat.has_values) {
      return look_up(word);
    } else if constexpr (kFormat.offset == 0) {
      return word;
    } else {
      return ((word | 0x80808080u) - static_cast<uint32_t>(kFormat.offset) * 0x01010101u) ^ 0x80808080u;
    }
  }
  KVASS_METHOD static float half(const uint8_t* header, int64_t index) {
    return f16_to_float(reinterpret_cast<const uint16_t*>(header)[index]);
  }
};

}  // namespace kvass::KVASS_DEVICE
