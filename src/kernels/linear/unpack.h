// The panel format (panel_format.h) in vectors: 16 outputs at a time, for the fast kernels. Written over a lane set V
// (simd/*.h), included by the units of one instruction set only. No state.
#pragma once

#include <cstdint>

#include "kernels/linear/linear.h"

namespace kvass {

inline constexpr int64_t kPrefetchAhead = 2048;  // bytes

template <int kValue>
struct Index {
  static constexpr int value = kValue;
};

// body(Index<0>()), …, body(Index<kCount - 1>()).
template <int kCount, class Body>
KVASS_INLINE void unroll(Body&& body) {
  if constexpr (kCount > 0) {
    unroll<kCount - 1>(body);
    body(Index<kCount - 1>());
  }
}

template <class V, WeightType kType>
struct Unpack {
  using F = typename V::F;
  using I = typename V::I;
  static constexpr PanelFormat kFormat = panel_format(kType);

  // The quants of one block, wherever the halves of their bits lie.
  struct Block {
    const uint8_t* quants;
    const uint8_t* low;
    const int8_t* values;
  };

  KVASS_INLINE const uint8_t* cell(const PanelParts& panel, int64_t b) {
    return panel.cells + static_cast<uint64_t>(b) / kFormat.cell_blocks * kFormat.cell_bytes();
  }
  KVASS_INLINE int64_t index_in_cell(int64_t b) { return static_cast<uint64_t>(b) % kFormat.cell_blocks; }
  KVASS_INLINE Block block(const PanelParts& panel, int64_t b) {
    const uint8_t* quants = cell(panel, b) + kFormat.header_bytes + index_in_cell(b) * kFormat.block_bytes;
    if constexpr (kFormat.split) return {quants, panel.low + b * kFormat.block_bytes, nullptr};
    return {quants, nullptr, panel.values.of};
  }

  // What is read kPrefetchAhead bytes after block b.
  KVASS_INLINE void prefetch(const PanelParts& panel, int64_t b) {
    const uint8_t* next = block(panel, b).quants + kPrefetchAhead;
    for (int i = 0; i < kFormat.block_bytes; i += 64) __builtin_prefetch(next + i);
    if constexpr (kFormat.split) {
      const uint8_t* low = block(panel, b).low + kPrefetchAhead;
      for (int i = 0; i < kFormat.block_bytes; i += 64) __builtin_prefetch(low + i);
    }
    if (index_in_cell(b) == 0) {
      for (int i = 0; i < kFormat.header_bytes; i += 64) __builtin_prefetch(next - kFormat.header_bytes + i);
    }
  }

  // Group kGroup of a block as stored, or the values that it stands for: [16 outputs][4 k] bytes, an output an int32
  // lane.
  template <int kGroup>
  KVASS_INLINE I group(const Block& block) {
    if constexpr (kFormat.split) {
      const I high = V::loadi(block.quants + kGroup % 4 * kGroupBytes);
      const I low = V::loadi(block.low + kGroup % 4 * kGroupBytes);
      const I nibbles = kGroup < 4 ? V::andi(low, V::set1i(0x0f0f0f0f)) : V::high_nibbles(low);
      const I q = V::put_bits(nibbles, kGroup < 4 ? V::slli(high, 4) : high, V::set1i(static_cast<int>(0xf0f0f0f0u)));
      return V::xori(q, V::set1i(static_cast<int>(0x80808080u)));
    } else if constexpr (kFormat.bits == 8) {
      return V::loadi(block.quants + kGroup * kGroupBytes);
    } else {
      const I q = high<kGroup>(block, low<kGroup>(block));
      if constexpr (kFormat.has_values) return V::look_up(q, block.values);
      return q;
    }
  }

  // The scale (d·sc) of block b, of its half h where a scale covers 16 k's.
  KVASS_INLINE F scale(const PanelParts& panel, int64_t b, int h) {
    const uint8_t* header = cell(panel, b);
    const int64_t sub = index_in_cell(b);
    const int64_t index = (kFormat.scale_block == 16 ? sub * 2 + h : sub) * kPanelOutputs;
    if constexpr (kFormat.scales == Scales::f16) {
      return V::load_f16(reinterpret_cast<const uint16_t*>(header) + index);
    } else if constexpr (kFormat.scales == Scales::bf16) {
      return V::load_bf16(reinterpret_cast<const uint16_t*>(header) + index);
    } else if constexpr (kFormat.scales == Scales::e4m3) {
      return V::mul(V::from_bits(V::slli(V::load_u8(header + index), 20)), V::set1(kE4m3Unit));
    } else if constexpr (kFormat.scales == Scales::one) {
      return V::load(reinterpret_cast<const float*>(header));
    } else {
      return V::mul(super_scale(header), V::to_float(sub_scale(header + kSubScaleOffset + index)));
    }
  }

  // What every weight of block b, of its half h where a minimum covers 16 k's, is too large by: dmin·m, or −m.
  KVASS_INLINE F minimum(const PanelParts& panel, int64_t b, int h) {
    const uint8_t* header = cell(panel, b);
    const int64_t sub = index_in_cell(b);
    if constexpr (kFormat.scales == Scales::f16) {
      const uint16_t* m = reinterpret_cast<const uint16_t*>(header + kMinimumOffset);
      return V::mul(V::load_f16(m + sub * kPanelOutputs), V::set1(-1.0f));
    } else {
      const F dmin = V::load_f16(reinterpret_cast<const uint16_t*>(header + kSuperMinimumOffset));
      if constexpr (kFormat.scales == Scales::k_nibbles) {
        const I both = V::load_u8(header + kSubScaleOffset + (sub * 2 + h) * kPanelOutputs);
        return V::mul(dmin, V::to_float(V::srli(both, 4)));
      } else {
        return V::mul(dmin, V::to_float(V::load_u8(header + kSubMinimumOffset + sub * kPanelOutputs)));
      }
    }
  }

  // Dequantises blocks [b, b + blocks) to out [blocks * 32][16].
  KVASS_INLINE void dequantise(const PanelParts& panel, int64_t b, int64_t blocks, float* out) {
    for (const int64_t end = b + blocks; b < end; ++b, out += kBlock * kPanelOutputs) {
      const Block quants = block(panel, b);
      const F scales[2] = {scale(panel, b, 0), kFormat.scale_block == 16 ? scale(panel, b, 1) : V::zero()};
      constexpr bool kHalves = kFormat.scale_block == 16;
      F subtracted[2] = {V::zero(), V::zero()};
      if constexpr (kFormat.minimum) subtracted[0] = minimum(panel, b, 0);
      if constexpr (kFormat.minimum && kHalves) subtracted[1] = minimum(panel, b, 1);
      unroll<8>([&](auto g) __attribute__((always_inline)) {
        constexpr int kGroup = decltype(g)::value;
        const I q = group<kGroup>(quants);
        unroll<4>([&](auto byte) __attribute__((always_inline)) {
          constexpr int kByte = decltype(byte)::value;
          I lane;
          if constexpr (kFormat.signed_bytes()) {
            lane = V::srai(V::slli(q, 24 - 8 * kByte), 24);
          } else {
            lane = V::andi(V::srli(q, 8 * kByte), V::set1i(0xff));
            if constexpr (kFormat.offset != 0) lane = V::subi(lane, V::set1i(kFormat.offset));
          }
          constexpr int kHalf = kHalves ? kGroup / 4 : 0;
          F w = V::mul(scales[kHalf], V::to_float(lane));
          if constexpr (kFormat.minimum) w = V::sub(w, subtracted[kHalf]);
          V::store(out + (kGroup * 4 + kByte) * kPanelOutputs, w);
        });
      });
    }
  }

 private:
  KVASS_INLINE F super_scale(const uint8_t* header) {
    if constexpr (kFormat.scales == Scales::bytes) return V::load(reinterpret_cast<const float*>(header));
    return V::load_f16(reinterpret_cast<const uint16_t*>(header));
  }
  KVASS_INLINE I sub_scale(const uint8_t* scales) {
    if constexpr (kFormat.scales == Scales::k_nibbles) return V::andi(V::load_u8(scales), V::set1i(15));
    if constexpr (kFormat.minimum) return V::load_u8(scales);
    return V::load_i8(reinterpret_cast<const int8_t*>(scales));
  }

  // The first bits of a group's quants, the others zero.
  template <int kGroup>
  KVASS_INLINE I low(const Block& block) {
    if constexpr (kFormat.low_bits() == 2) {
      const I four = V::loadi(block.quants + kGroup / 4 * kGroupBytes);
      return V::andi(kGroup % 4 == 0 ? four : V::srli(four, kGroup % 4 * 2), V::set1i(0x03030303));
    } else {
      const I two = V::loadi(block.quants + kGroup % 4 * kGroupBytes);
      return kGroup < 4 ? V::andi(two, V::set1i(0x0f0f0f0f)) : V::high_nibbles(two);
    }
  }
  // The others put to them.
  template <int kGroup>
  KVASS_INLINE I high(const Block& block, I q) {
    const uint8_t* bytes = block.quants + kFormat.high_bits_offset();
    if constexpr (kFormat.bits == 5) {
      return put<kGroup, 4, 0x10101010>(q, V::loadi(bytes));
    } else if constexpr (kFormat.bits == 3) {
      return put<kGroup, 2, 0x04040404>(q, V::loadi(bytes));
    } else if constexpr (kFormat.bits == 6) {
      return put<kGroup % 4 * 2, 4, 0x30303030>(q, V::loadi(bytes + kGroup / 4 * kGroupBytes));
    } else {
      return q;
    }
  }
  // q with bits from position kAt of every byte up, moved to kTo, where kMask is.
  template <int kAt, int kTo, int kMask>
  KVASS_INLINE I put(I q, I bytes) {
    if constexpr (kAt <= kTo) {
      return V::put_bits(q, V::slli(bytes, kTo - kAt), V::set1i(kMask));
    } else {
      return V::put_bits(q, V::srli(bytes, kAt - kTo), V::set1i(kMask));
    }
  }
};

}  // namespace kvass
