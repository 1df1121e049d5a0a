// One element of a panel at a time: the panel format read as plainly as it is written down in panel_format.h. For the
// reference kernels and for looking up single rows; the fast kernels have their own way in (unpack.h).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "base/float16.h"
#include "kernels/linear/panel_format.h"

namespace kvass {

// Output `lane` of one panel of a type known at compile time. `panel` is not owned.
template <WeightType kType>
class PanelReader {
 public:
  static constexpr PanelFormat kFormat = panel_format(kType);

  PanelReader(const PanelParts& panel, int lane) : panel_(panel), lane_(lane) {}

  // A weight of a float type.
  float element(int64_t k) const {
    const int64_t index = k * kPanelOutputs + lane_;
    if constexpr (kType == WeightType::F32) {
      float value;
      std::memcpy(&value, panel_.cells + index * 4, 4);
      return value;
    } else {
      return kType == WeightType::F16 ? f16_to_float(half(panel_.cells + index * 2))
                                      : bf16_to_float(half(panel_.cells + index * 2));
    }
  }

  // q of element i of block b, its offset taken off.
  int quant(int64_t b, int i) const {
    const uint8_t* block = cell(b) + kFormat.header_bytes + b % kFormat.cell_blocks * kFormat.block_bytes;
    const int group = i / 4;
    const int byte = lane_ * 4 + i % 4;
    if constexpr (kFormat.bits == 8 && !kFormat.split) return static_cast<int8_t>(block[group * kGroupBytes + byte]);
    int q = kFormat.low_bits() == 2 ? two_bits(block, group, byte) : four_bits(block, group, byte);
    const uint8_t* high = block + kFormat.high_bits_offset();
    if constexpr (kFormat.bits % 2 == 1) q |= (high[byte] >> group & 1) << kFormat.low_bits();
    if constexpr (kFormat.bits == 6) q |= two_bits(high, group, byte) << 4;
    if constexpr (kFormat.split) return (q - 8) * 16 + four_bits(panel_.low + b * kFormat.block_bytes, group, byte);
    if constexpr (kFormat.has_values) return panel_.values.of[q];
    return q - kFormat.offset;
  }

  // Of Q8_0_split: the high part of q, and four times the norm of what it leaves of block b.
  int high(int64_t b, int i) const { return (quant(b, i) + 128) / 16 - 8; }
  int error(int64_t b) const { return panel_.errors[b * kPanelOutputs + lane_]; }

  // The scale of block b, of its half h where a scale covers 16 k's.
  float scale(int64_t b, int h) const {
    const uint8_t* header = cell(b);
    const int64_t sub = b % kFormat.cell_blocks;
    const int64_t index = (kFormat.scale_block == 16 ? sub * 2 + h : sub) * kPanelOutputs + lane_;
    if constexpr (kFormat.scales == Scales::f16) return f16_to_float(half(header + index * 2));
    if constexpr (kFormat.scales == Scales::bf16) return bf16_to_float(half(header + index * 2));
    if constexpr (kFormat.scales == Scales::e4m3) {
      return std::bit_cast<float>(static_cast<uint32_t>(header[index]) << 20) * kE4m3Unit;
    }
    const float d = kFormat.scales == Scales::bytes || kFormat.scales == Scales::one
                        ? std::bit_cast<float>(word(header + lane_ * 4))
                        : f16_to_float(half(header + lane_ * 2));
    if constexpr (kFormat.scales == Scales::one) return d;
    const uint8_t sc = header[kSubScaleOffset + index];
    if constexpr (kFormat.scales == Scales::k_nibbles) return d * static_cast<float>(sc & 15);
    if constexpr (kFormat.minimum) return d * static_cast<float>(sc);
    return d * static_cast<float>(static_cast<int8_t>(sc));
  }

  // What is subtracted from every weight of block b, of its half h where a minimum covers 16 k's: dmin m, or −m.
  float minimum(int64_t b, int h) const {
    const uint8_t* header = cell(b);
    const int64_t sub = b % kFormat.cell_blocks;
    if constexpr (kFormat.scales == Scales::f16) {
      return -f16_to_float(half(header + kMinimumOffset + (sub * kPanelOutputs + lane_) * 2));
    }
    const float dmin = f16_to_float(half(header + kSuperMinimumOffset + lane_ * 2));
    if constexpr (kFormat.scales == Scales::k_nibbles) {
      return dmin * static_cast<float>(header[kSubScaleOffset + (sub * 2 + h) * kPanelOutputs + lane_] >> 4);
    }
    return dmin * static_cast<float>(header[kSubMinimumOffset + sub * kPanelOutputs + lane_]);
  }

  // The weight as the file's type defines it.
  float weight(int64_t b, int i) const {
    const int h = kFormat.scale_block == 16 ? i / 16 : 0;
    const float product = scale(b, h) * static_cast<float>(quant(b, i));
    if constexpr (kFormat.minimum) return product - minimum(b, h);
    return product;
  }

 private:
  static uint16_t half(const uint8_t* bytes) {
    uint16_t bits;
    std::memcpy(&bits, bytes, 2);
    return bits;
  }
  static uint32_t word(const uint8_t* bytes) {
    uint32_t bits;
    std::memcpy(&bits, bytes, 4);
    return bits;
  }
  static int two_bits(const uint8_t* bytes, int group, int byte) {
    return bytes[group / 4 * kGroupBytes + byte] >> group % 4 * 2 & 3;
  }
  static int four_bits(const uint8_t* bytes, int group, int byte) {
    return bytes[group % 4 * kGroupBytes + byte] >> group / 4 * 4 & 15;
  }
  const uint8_t* cell(int64_t b) const { return panel_.cells + b / kFormat.cell_blocks * kFormat.cell_bytes(); }

  PanelParts panel_;
  int lane_;
};

}  // namespace kvass
