// The fast kernels for quantised activations, written once over a lane set V (simd/*.h) and its integer dots D. A unit
// of one instruction set defines D, includes this and exports linear<V, D, Block>. No state; all scratch is on the
// stack.
//
// One row streams the packed panel through registers. More rows share an unpacked chunk of a panel (kChunk blocks, in
// L1), R rows x 16 outputs at a time; the chains' accumulators wait in memory between chunks, which changes no bit.
// What D has is in block_dots.h.
#pragma once

#include "kernels/linear/block_dots.h"

namespace kvass {

inline constexpr int64_t kChunk = 8;  // blocks unpacked at a time

// Types whose unpacked blocks are multiplied alike share a tile, under one of their names.
template <class Block>
consteval WeightType tile_type(WeightType type) {
  const PanelFormat format = panel_format(type);
  if (format.minimum && format.scale_block == 16) return type;
  if (format.minimum) return format.bits == 5 && kIs8<Block> ? WeightType::Q5_K : WeightType::Q4_K;
  if (!kIs8<Block>) return format.scale_block == 16 ? WeightType::Q6_K : WeightType::Q8_0;
  if (!format.signed_bytes()) return type;
  return format.scale_block == 16 ? WeightType::IQ2_S : WeightType::Q8_0;
}

// acc [R rows][16] += blocks [0, blocks) of 16 outputs and R rows of x.
template <class V, class D, WeightType kType, int kRows, class Block, class Source>
static __attribute__((noinline)) void multiply_tile(Source source, int64_t blocks, const Block* x, int64_t x_stride,
                                                    float* acc) {
  using F = typename V::F;
  using I = typename V::I;
  constexpr PanelFormat kFormat = panel_format(kType);
  constexpr int kParts = kBlock / kFormat.scale_block;
  constexpr bool kInRegisters = kRows <= 2;
  F chains[kInRegisters ? kRows : 1];
  if constexpr (kInRegisters) {
    for (int r = 0; r < kRows; ++r) chains[r] = V::load(acc + r * kPanelOutputs);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    Source::prefetch(source, b);
    unroll<kParts>([&](auto part) __attribute__((always_inline)) {
      constexpr int kPart = decltype(part)::value;
      I dots[kRows];
      dot_part_of_block<V, D, kType, kPart>(source, b, x, x_stride, dots);
      const F scale = Source::scale(source, b, kPart);
      unroll<kRows>([&](auto row) __attribute__((always_inline)) {
        constexpr int r = decltype(row)::value;
        const Block& block = x[r * x_stride + b];
        const F s = V::set1(block.scale);
        F chain;
        if constexpr (kInRegisters) {
          chain = chains[r];
        } else {
          chain = V::load(acc + r * kPanelOutputs);
        }
        chain = V::fma(V::to_float(dots[r]), V::mul(scale, s), chain);
        if constexpr (kFormat.minimum) {
          const F sum = V::set1(part_sum(block, kParts == 1 ? 0 : 1 + kPart));
          chain = V::fnma(sum, V::mul(Source::minimum(source, b, kPart), s), chain);
        }
        if constexpr (kInRegisters) {
          chains[r] = chain;
        } else {
          V::store(acc + r * kPanelOutputs, chain);
        }
      });
    });
  }
  if constexpr (kInRegisters) {
    for (int r = 0; r < kRows; ++r) V::store(acc + r * kPanelOutputs, chains[r]);
  }
}

template <class V, class D, WeightType kType, class Block>
static __attribute__((noinline)) void unpack_chunk(const PanelParts& panel, int64_t begin, int64_t count,
                                                   UnpackedBlock<Block>* out) {
  using U = Unpack<V, kType>;
  using I = typename V::I;
  for (int64_t i = 0; i < count; ++i) {
    const typename U::Block quants = U::block(panel, begin + i);
    unroll<8>([&](auto g) __attribute__((always_inline)) {
      constexpr int kGroup = decltype(g)::value;
      const I w = U::template group<kGroup>(quants);
      if constexpr (MultipliesParts<D>) {
        D::template unpack_group<kType, kGroup>(quants, out[i]);
      } else if constexpr (kIs8<Block>) {
        V::storei(out[i].quants[kGroup], D::template encode8<kType>(w));
      } else {
        constexpr bool kSigned = U::kFormat.signed_bytes();
        I even = D::template even16<kSigned>(w);
        I odd = D::template odd16<kSigned>(w);
        if constexpr (U::kFormat.offset != 0) {
          even = D::centre16(even, U::kFormat.offset);
          odd = D::centre16(odd, U::kFormat.offset);
        }
        V::storei(out[i].quants[kGroup], even);
        V::storei(out[i].quants[kGroup] + kGroupBytes, odd);
      }
    });
    V::store(out[i].scale[0], U::scale(panel, begin + i, 0));
    if constexpr (U::kFormat.scale_block == 16) V::store(out[i].scale[1], U::scale(panel, begin + i, 1));
    if constexpr (U::kFormat.minimum) {
      V::store(out[i].minimum[0], U::minimum(panel, begin + i, 0));
      if constexpr (U::kFormat.scale_block == 16) V::store(out[i].minimum[1], U::minimum(panel, begin + i, 1));
    }
  }
}

// Tiles of kRows rows while they last, then of fewer.
template <class V, class D, WeightType kType, int kRows, class Block>
static void multiply_rows(const UnpackedBlock<Block>* unpacked, int64_t blocks, const Block* x, int64_t x_stride,
                          int64_t rows, float* acc) {
  for (; rows >= kRows; rows -= kRows, x += kRows * x_stride, acc += kRows * kPanelOutputs) {
    multiply_tile<V, D, kType, kRows, Block>(UnpackedSource<V, Block>{unpacked}, blocks, x, x_stride, acc);
  }
  if constexpr (kRows > 1) {
    constexpr int kFewer = kRows > 4 ? 4 : kRows / 2;
    if (rows > 0) multiply_rows<V, D, kType, kFewer, Block>(unpacked, blocks, x, x_stride, rows, acc);
  }
}

template <class V, class D, WeightType kType, class Block>
static void multiply(const LinearParams& p) {
  const int64_t blocks = p.k / kBlock;
  const Block* x = static_cast<const Block*>(p.x);
  alignas(64) float acc[kRowBlock * kPanelOutputs];
  for (int64_t index = p.panel_begin; index < p.panel_end; ++index) {
    const PanelParts panel = panel_of<kType>(p, index);
    if (p.rows == 1) {
      V::store(acc, V::zero());
      multiply_tile<V, D, kType, 1, Block>(PackedSource<V, D, kType>{panel}, blocks, x, 0, acc);
      store_panel<V>(p, index, 0, 1, acc);
      continue;
    }
    for (int64_t row = 0; row < p.rows; row += kRowBlock) {
      const int64_t rows = p.rows - row < kRowBlock ? p.rows - row : kRowBlock;
      UnpackedBlock<Block> unpacked[kChunk];
      for (int64_t r = 0; r < rows; ++r) V::store(acc + r * kPanelOutputs, V::zero());
      for (int64_t b = 0; b < blocks; b += kChunk) {
        constexpr WeightType kTile = tile_type<Block>(kType);
        const int64_t count = blocks - b < kChunk ? blocks - b : kChunk;
        unpack_chunk<V, D, kType, Block>(panel, b, count, unpacked);
        multiply_rows<V, D, kTile, D::template tile_rows<kTile, Block>(), Block>(
            unpacked, count, x + row * p.x_stride + b, p.x_stride, rows, acc);
      }
      store_panel<V>(p, index, row, rows, acc);
    }
  }
}

template <class V, class D, class Block>
static void linear(const LinearParams& p) {
  for_kernel_type(
      p.type, [&]<WeightType kType>() __attribute__((always_inline)) {
        if constexpr (panel_format(kType).quantised) multiply<V, D, kType, Block>(p);
      });
}

}  // namespace kvass
