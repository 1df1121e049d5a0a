// A panel of packed weights as device threads read it: the quants of a block of one output as eight words of four
// signed bytes each, their offset taken off, and the block's scales. The format is panel_format.h; this is device code
// (device/code.h) and owns nothing.
#pragma once

#include "device/lane.h"
#include "kernels/linear/panel_format.h"

namespace kvass::KVASS_DEVICE {

// Output `lane` of one panel.
template <WeightType kType>
struct Panel {
  static constexpr PanelFormat kFormat = panel_format(kType);
  static constexpr int kCellBlocks = kFormat.quantised ? kFormat.cell_blocks : 1;
  static constexpr int kCellBytes = kFormat.cell_bytes();
  static constexpr int kScales = kFormat.scale_block == 16 ? 2 : 1;  // of a block

  const uint8_t* bytes;
  int lane;

  KVASS_METHOD const uint8_t* cell(int64_t b) const { return bytes + b / kCellBlocks * kCellBytes; }

  // words [8]: k's 4 g to 4 g + 3 of the block in word g.
  KVASS_METHOD void quants(int64_t b, uint32_t* words) const {
    const uint8_t* block = cell(b) + kFormat.header_bytes + b % kCellBlocks * kFormat.block_bytes;
    const uint32_t* groups = reinterpret_cast<const uint32_t*>(block) + lane;
    constexpr int kGroupWords = kGroupBytes / 4;
    if constexpr (kFormat.bits == 8) {
      KVASS_UNROLL
      for (int g = 0; g < 8; ++g) words[g] = groups[g * kGroupWords];
    } else {
      KVASS_UNROLL
      for (int g = 0; g < 4; ++g) {
        const uint32_t word = groups[g * kGroupWords];
        words[g] = word & 0x0f0f0f0fu;
        words[g + 4] = word >> 4 & 0x0f0f0f0fu;
      }
    }
    const uint32_t* high = groups + kHighBitsOffset / 4;
    if constexpr (kFormat.bits == 5) {
      const uint32_t fifth = high[0];
      KVASS_UNROLL
      for (int g = 0; g < 8; ++g) words[g] |= (fifth >> g & 0x01010101u) << 4;
    }
    if constexpr (kFormat.bits == 6) {
      const uint32_t halves[2] = {high[0], high[kGroupWords]};
      KVASS_UNROLL
      for (int g = 0; g < 8; ++g) words[g] |= (halves[g / 4] >> (g % 4 * 2) & 0x03030303u) << 4;
    }
    KVASS_UNROLL
    for (int g = 0; g < 8; ++g) words[g] = as_signed(words[g]);
  }

  // Words g and g + 4 alone, g below 4.
  KVASS_METHOD void two_quants(int64_t b, int g, uint32_t& first, uint32_t& second) const {
    const uint8_t* block = cell(b) + kFormat.header_bytes + b % kCellBlocks * kFormat.block_bytes;
    const uint32_t* groups = reinterpret_cast<const uint32_t*>(block) + lane;
    constexpr int kGroupWords = kGroupBytes / 4;
    first = groups[g * kGroupWords];
    if constexpr (kFormat.bits == 8) {
      second = groups[(g + 4) * kGroupWords];
    } else {
      second = first >> 4 & 0x0f0f0f0fu;
      first &= 0x0f0f0f0fu;
    }
    const uint32_t* high = groups + kHighBitsOffset / 4;
    if constexpr (kFormat.bits == 5) {
      const uint32_t fifth = high[0];
      first |= (fifth >> g & 0x01010101u) << 4;
      second |= (fifth >> (g + 4) & 0x01010101u) << 4;
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
    if constexpr (!kFormat.k_quant) {
      return half(header, sub * kPanelOutputs + lane);
    } else {
      const float d = half(header, lane);
      const uint8_t* scales = header + kSubScaleOffset + lane;
      if constexpr (kScales == 2) {
        return mul_rn(d, static_cast<float>(static_cast<int8_t>(scales[(sub * 2 + h) * kPanelOutputs])));
      } else {
        return mul_rn(d, static_cast<float>(scales[sub * kPanelOutputs]));
      }
    }
  }

  // What is subtracted from every weight of block b: dmin m, or −m.
  KVASS_METHOD float minimum(int64_t b) const {
    const uint8_t* header = cell(b);
    const int64_t sub = b % kCellBlocks;
    if constexpr (!kFormat.k_quant) {
      return -half(header + kMinimumOffset, sub * kPanelOutputs + lane);
    } else {
      return mul_rn(half(header + kSuperMinimumOffset, lane),
                    static_cast<float>(header[kSubMinimumOffset + sub * kPanelOutputs + lane]));
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
  KVASS_METHOD static uint32_t look_up(uint32_t word) {
    constexpr uint64_t kFirst = kFormat.values.bytes(0, 8), kLast = kFormat.values.bytes(8, 8);
    uint32_t out = 0;
    KVASS_UNROLL
    for (int byte = 0; byte < 4; ++byte) {
      const uint32_t index = word >> 8 * byte & 15u;
      const uint64_t eight = index & 8u ? kLast : kFirst;
      out |= static_cast<uint32_t>(eight >> 8 * (index & 7u) & 255u) << 8 * byte;
    }
    return out;
  }

  // No byte borrows from its neighbour: 128 is added before and taken off after.
  KVASS_METHOD static uint32_t as_signed(uint32_t word) {
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
