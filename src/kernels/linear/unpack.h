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
  };

  KVASS_INLINE const uint8_t* cell(const PanelParts& panel, int64_t b) {
    return panel.cells + static_cast<uint64_t>(b) / kFormat.cell_blocks * kFormat.cell_bytes();
  }
  KVASS_INLINE int64_t index_in_cell(int64_t b) { return static_cast<uint64_t>(b) % kFormat.cell_blocks; }
  KVASS_INLINE Block block(const PanelParts& panel, int64_t b) {
    const uint8_t* quants = cell(panel, b) + kFormat.header_bytes + index_in_cell(b) * kFormat.block_bytes;
    if constexpr (kFormat.split) return {quants, panel.low + b * kFormat.block_bytes};
    return {quants, nullptr};
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
      I q = V::loadi(block.quants + kGroup % 4 * kGroupBytes);
      q = kGroup < 4 ? V::andi(q, V::set1i(0x0f0f0f0f)) : V::high_nibbles(q);
      if constexpr (kFormat.bits == 5) {
        return high<kGroup, 0x10101010>(q, V::loadi(block.quants + kHighBitsOffset));
      } else if constexpr (kFormat.bits == 6) {
        return high<kGroup % 4 * 2, 0x30303030>(q, V::loadi(block.quants + kHighBitsOffset + kGroup / 4 * kGroupBytes));
      } else if constexpr (kFormat.has_values) {
        constexpr uint64_t kFirst = kFormat.values.bytes(0, 8), kLast = kFormat.values.bytes(8, 8);
        return V::look_up(q, kFirst, kLast);
      } else {
        return q;
      }
    }
  }

  // The scale (d·sc) of block b, of its half h where a scale covers 16 k's.
  KVASS_INLINE F scale(const PanelParts& panel, int64_t b, int h) {
    const uint8_t* header = cell(panel, b);
    const int64_t sub = index_in_cell(b);
    if constexpr (!kFormat.k_quant) {
      return V::load_f16(reinterpret_cast<const uint16_t*>(header) + sub * kPanelOutputs);
    } else {
      const F d = V::load_f16(reinterpret_cast<const uint16_t*>(header));
      const uint8_t* scales = header + kSubScaleOffset;
      if constexpr (kFormat.scale_block == 16) {
        const int8_t* halves = reinterpret_cast<const int8_t*>(scales);
        return V::mul(d, V::to_float(V::load_i8(halves + (sub * 2 + h) * kPanelOutputs)));
      } else {
        return V::mul(d, V::to_float(V::load_u8(scales + sub * kPanelOutputs)));
      }
    }
  }

  // What every weight of block b is too large by: dmin·m, or −m.
  KVASS_INLINE F minimum(const PanelParts& panel, int64_t b) {
    const uint8_t* header = cell(panel, b);
    const int64_t sub = index_in_cell(b);
    if constexpr (!kFormat.k_quant) {
      const uint16_t* m = reinterpret_cast<const uint16_t*>(header + kMinimumOffset);
      return V::mul(V::load_f16(m + sub * kPanelOutputs), V::set1(-1.0f));
    } else {
      const F dmin = V::load_f16(reinterpret_cast<const uint16_t*>(header + kSuperMinimumOffset));
      return V::mul(dmin, V::to_float(V::load_u8(header + kSubMinimumOffset + sub * kPanelOutputs)));
    }
  }

  // Dequantises blocks [b, b + blocks) to out [blocks * 32][16].
  KVASS_INLINE void dequantise(const PanelParts& panel, int64_t b, int64_t blocks, float* out) {
    for (const int64_t end = b + blocks; b < end; ++b, out += kBlock * kPanelOutputs) {
      const Block quants = block(panel, b);
      const F scales[2] = {scale(panel, b, 0), kFormat.scale_block == 16 ? scale(panel, b, 1) : V::zero()};
      F subtracted = V::zero();
      if constexpr (kFormat.minimum) subtracted = minimum(panel, b);
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
          F w = V::mul(scales[kFormat.scale_block == 16 ? kGroup / 4 : 0], V::to_float(lane));
          if constexpr (kFormat.minimum) w = V::sub(w, subtracted);
          V::store(out + (kGroup * 4 + kByte) * kPanelOutputs, w);
        });
      });
    }
  }

 private:
  // q with bits from position kAt of every byte up, moved to where kMask is.
  template <int kAt, int kMask>
  KVASS_INLINE I high(I q, I bytes) {
    if constexpr (kAt <= 4) {
      return V::put_bits(q, V::slli(bytes, 4 - kAt), V::set1i(kMask));
    } else {
      return V::put_bits(q, V::srli(bytes, kAt - 4), V::set1i(kMask));
    }
  }
};

}  // namespace kvass
