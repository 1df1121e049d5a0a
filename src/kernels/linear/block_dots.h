// The dot of a block of weights with blocks of quantised activations, over a lane set V and a set's integer dots D.
// Included by the units of one instruction set only. No state.
//
// D has, on vectors of [16 outputs][4 k] bytes or [16 outputs][2 k] int16:
//     tile_rows<kType, Block>()                    R
//     even16<kSigned>(w), odd16<kSigned>(w)        k 0 and 2, k 1 and 3 of each output, as int16
//     centre16(w, offset)                          w - offset in int16
//     madd16(acc, w, a)                            acc + w · a, pairs of int16
//     encode8<kType>(w)                            as add8 likes its weights
//     start8<kType>(block, part), add8<kType>(acc, w, a), finish8<kType>(acc, block, part)
//                                                  the dot with bytes a, offset included; part 0: the whole block, 1,
//                                                  2: a half
// A D with kMultipliesParts has, of these, tile_rows and an encode8 that changes nothing, and
//     unpack_group<kType, group>(quants, out)      a group of an unpacked block's quants, as multiply_part likes them
//     multiply_part<kType, part>(source, b, x, x_stride, dots)
//                                                  the dots of part 0 or 1 of block b and R rows, offset included
#pragma once

#include "kernels/linear/sources.h"

namespace kvass {

template <class D>
concept MultipliesParts = requires {
  D::kMultipliesParts;
};

// dots = I (linear.h) of part kPart of block b, of kRows rows.
template <class V, class D, WeightType kType, int kPart, int kRows, class Block, class Source>
KVASS_INLINE void dot_part_of_block(Source source, int64_t b, const Block* x, int64_t x_stride,
                                    typename V::I (&dots)[kRows]) {
  if constexpr (MultipliesParts<D>) {
    D::template multiply_part<kType, kPart>(source, b, x, x_stride, dots);
  } else {
    using I = typename V::I;
    constexpr PanelFormat kFormat = panel_format(kType);
    constexpr int kParts = kBlock / kFormat.scale_block;
    constexpr int kSum = kParts == 1 ? 0 : 1 + kPart;
    unroll<kRows>([&](auto row) __attribute__((always_inline)) {
      constexpr int r = decltype(row)::value;
      const Block& block = x[r * x_stride + b];
      if constexpr (kIs8<Block>) {
        dots[r] = D::template start8<kType>(block, kSum);
      } else if constexpr (kFormat.offset != 0 && !Source::kCentred) {
        constexpr int kShift = __builtin_ctz(panel_format(kType).offset);
        dots[r] = V::slli(V::set1i(block.negated_sums[kSum]), kShift);
      } else {
        dots[r] = V::zeroi();
      }
    });
    unroll<8 / kParts>([&](auto g) __attribute__((always_inline)) {
      constexpr int kGroup = kPart * (8 / kParts) + decltype(g)::value;
      if constexpr (kIs8<Block>) {
        const I w = Source::template bytes<kGroup>(source, b);
        unroll<kRows>([&](auto row) __attribute__((always_inline)) {
          constexpr int r = decltype(row)::value;
          const I a = V::set1i(load_four(x[r * x_stride + b].q + kGroup * 4));
          dots[r] = D::template add8<kType>(dots[r], w, a);
        });
      } else {
        const I even = Source::template even<kGroup>(source, b);
        unroll<kRows>([&](auto row) __attribute__((always_inline)) {
          constexpr int r = decltype(row)::value;
          dots[r] = D::madd16(dots[r], even, V::set1i(load_four(x[r * x_stride + b].q + kGroup * 4)));
        });
        const I odd = Source::template odd<kGroup>(source, b);
        unroll<kRows>([&](auto row) __attribute__((always_inline)) {
          constexpr int r = decltype(row)::value;
          dots[r] = D::madd16(dots[r], odd, V::set1i(load_four(x[r * x_stride + b].q + kGroup * 4 + 2)));
        });
      }
    });
    if constexpr (kIs8<Block>) {
      unroll<kRows>([&](auto row) __attribute__((always_inline)) {
        constexpr int r = decltype(row)::value;
        dots[r] = D::template finish8<kType>(dots[r], x[r * x_stride + b], kSum);
      });
    }
  }
}

// What screen_panels.h takes of a block: high panels have the cells of Q4_0.
template <class V, class D>
struct ScreenDots {
  template <class Block>
  KVASS_INLINE typename V::I high(const PanelParts& panel, int64_t b, const Block* x) {
    typename V::I dots[1];
    dot_part_of_block<V, D, WeightType::Q4_0, 0>(PackedSource<V, D, WeightType::Q4_0>{panel}, b, x, 0, dots);
    return dots[0];
  }
};

}  // namespace kvass
