// The kernels for quantised activations on sets that have an exact dot of unsigned with signed bytes (vpdpbusd),
// written once over a lane set V whose dot_bytes(acc, w, a) it is. Weights are unsigned bytes, what they are too large
// by is taken off with −Σq; activations are one plane of signed bytes (8 bits) or two, q = 256 · high + low (16 bits).
// No state; all scratch is on the stack. What the sets without such an instruction do is in generic.h.
//
// Up to kPackedRows rows stream a packed panel through registers. More rows share an unpacked chunk of two panels
// (kChunkBlocks, in the first-level cache), four rows at a time; their chains wait in memory between chunks, which
// changes no bit.
#pragma once

#include "kernels/linear/byte_sources.h"

namespace kvass {

inline constexpr int64_t kChunkBlocks = 8;  // unpacked at a time
inline constexpr int kPackedRows = 8;       // most rows that read packed panels
inline constexpr int kTilePanels = 2;       // of a tile of unpacked weights: they share the loads of activations
inline constexpr int kTileRows = 4;         // likewise: with kTilePanels as many chains as stay in registers

template <class V, WeightType kType>
static __attribute__((noinline)) void unpack_bytes(const PanelParts& panel, int64_t begin, int64_t count,
                                                   UnpackedBytesBlock* out) {
  using From = PackedBytes<V, kType>;
  const From from{panel};
  for (int64_t i = 0; i < count; ++i) {
    unroll<8>([&](auto g) __attribute__((always_inline)) {
      constexpr int kGroup = decltype(g)::value;
      typename V::I w = From::template bytes<kGroup>(from, begin + i);
      if constexpr (!From::kMinimum && From::kOffset != 128) {
        w = V::addi(w, V::set1i((128 - From::kOffset) * 0x01010101));  // no byte passes 255
      }
      V::storei(out[i].quants[kGroup], w);
    });
    V::store(out[i].scale[0], From::scale(from, begin + i, 0));
    if constexpr (From::kHalves) V::store(out[i].scale[1], From::scale(from, begin + i, 1));
    if constexpr (From::kMinimum) V::store(out[i].minimum[0], From::minimum(from, begin + i, 0));
    if constexpr (From::kMinimum && From::kHalves) V::store(out[i].minimum[1], From::minimum(from, begin + i, 1));
  }
}

// dots = I (linear.h) of part kPart of block b, of every panel and row.
template <class V, int kPart, int kPanels, int kRows, class Block, class Source>
KVASS_INLINE void dot_bytes(const Source* sources, int64_t b, const Block* x, int64_t x_stride,
                            typename V::I (&dots)[kPanels][kRows]) {
  using I = typename V::I;
  constexpr int kPlanes = Block::kPlanes;
  constexpr int kParts = Source::kHalves ? 2 : 1;
  I high[kPanels][kRows];  // of two planes
  unroll<kRows>([&](auto row) __attribute__((always_inline)) {
    constexpr int r = decltype(row)::value;
    I start = V::zeroi();
    if constexpr (Source::kOffset != 0) {
      constexpr int kSum = kParts == 1 ? 0 : 1 + kPart;
      start = V::slli(V::set1i(x[r * x_stride + b].negated_sums[kSum]), __builtin_ctz(Source::kOffset));
    }
    for (int p = 0; p < kPanels; ++p) {
      dots[p][r] = start;
      high[p][r] = V::zeroi();
    }
  });
  unroll<8 / kParts>([&](auto g) __attribute__((always_inline)) {
    constexpr int kGroup = kPart * (8 / kParts) + decltype(g)::value;
    I w[kPanels];
    for (int p = 0; p < kPanels; ++p) w[p] = Source::template bytes<kGroup>(sources[p], b);
    unroll<kPlanes * kRows>([&](auto index) __attribute__((always_inline)) {
      constexpr int r = decltype(index)::value % kRows;
      constexpr int plane = decltype(index)::value / kRows;
      const I a = V::set1i(load_four(x[r * x_stride + b].q[plane] + kGroup * 4));
      for (int p = 0; p < kPanels; ++p) {
        I& sum = plane == kPlanes - 1 ? dots[p][r] : high[p][r];
        sum = V::dot_bytes(sum, w[p], a);
      }
    });
  });
  if constexpr (kPlanes == 2) {
    unroll<kRows>([&](auto row) __attribute__((always_inline)) {
      constexpr int r = decltype(row)::value;
      for (int p = 0; p < kPanels; ++p) dots[p][r] = V::addi(V::slli(high[p][r], 8), dots[p][r]);
    });
  }
}

// acc [kPanels][kRows][16], panels acc_stride floats apart, += blocks [0, blocks) of the panels and kRows rows of x.
template <class V, int kPanels, int kRows, class Block, class Source>
static __attribute__((noinline)) void multiply_bytes(const Source* sources, int64_t blocks, const Block* x,
                                                     int64_t x_stride, float* acc, int64_t acc_stride) {
  using F = typename V::F;
  using I = typename V::I;
  constexpr int kParts = Source::kHalves ? 2 : 1;
  static_assert(kPanels * kRows <= 8);  // chains, and twice as many sums of bytes, in 32 registers
  F chains[kPanels][kRows];
  for (int p = 0; p < kPanels; ++p) {
    for (int r = 0; r < kRows; ++r) chains[p][r] = V::load(acc + p * acc_stride + r * kPanelOutputs);
  }
  for (int64_t b = 0; b < blocks; ++b) {
    for (int p = 0; p < kPanels; ++p) Source::template prefetch<kRows>(sources[p], b);
    unroll<kParts>([&](auto part) __attribute__((always_inline)) {
      constexpr int kPart = decltype(part)::value;
      I dots[kPanels][kRows];
      dot_bytes<V, kPart>(sources, b, x, x_stride, dots);
      F scale[kPanels], minimum[kPanels];
      for (int p = 0; p < kPanels; ++p) {
        scale[p] = Source::scale(sources[p], b, kPart);
        if constexpr (Source::kMinimum) minimum[p] = Source::minimum(sources[p], b, kPart);
      }
      unroll<kRows>([&](auto row) __attribute__((always_inline)) {
        constexpr int r = decltype(row)::value;
        const Block& block = x[r * x_stride + b];
        const F s = V::set1(block.scale);
        for (int p = 0; p < kPanels; ++p) {
          F& chain = chains[p][r];
          chain = V::fma(V::to_float(dots[p][r]), V::mul(scale[p], s), chain);
          if constexpr (Source::kMinimum) {
            chain = V::fnma(V::set1(part_sum(block, Source::kHalves ? 1 + kPart : 0)), V::mul(minimum[p], s), chain);
          }
        }
      });
    });
  }
  for (int p = 0; p < kPanels; ++p) {
    for (int r = 0; r < kRows; ++r) V::store(acc + p * acc_stride + r * kPanelOutputs, chains[p][r]);
  }
}

// Tiles of kRows rows while they last, then of fewer.
template <class V, int kPanels, int kRows, class Block, class Source>
static void multiply_byte_rows(const Source* sources, int64_t blocks, const Block* x, int64_t x_stride, int64_t rows,
                               float* acc, int64_t acc_stride) {
  for (; rows >= kRows; rows -= kRows, x += kRows * x_stride, acc += kRows * kPanelOutputs) {
    multiply_bytes<V, kPanels, kRows, Block>(sources, blocks, x, x_stride, acc, acc_stride);
  }
  if constexpr (kRows > 1) {
    if (rows > 0) {
      multiply_byte_rows<V, kPanels, kRows / 2, Block>(sources, blocks, x, x_stride, rows, acc, acc_stride);
    }
  }
}

// What screen_panels.h takes of a block: high panels have the cells of Q4_0.
template <class V>
struct HighByteDots {
  template <class Block>
  KVASS_INLINE typename V::I high(const PanelParts& panel, int64_t b, const Block* x) {
    const PackedBytes<V, WeightType::Q4_0> source{panel};
    typename V::I dots[1][1];
    dot_bytes<V, 0>(&source, b, x, 0, dots);
    return dots[0][0];
  }
};

// One panel of at most kPackedRows rows.
template <class V, WeightType kType, class Block>
static void multiply_packed_panel(const LinearParams& p, int64_t index) {
  const PackedBytes<V, kType> panel{panel_of<kType>(p, index)};
  alignas(64) float acc[kPackedRows * kPanelOutputs];
  for (int64_t r = 0; r < p.rows; ++r) V::store(acc + r * kPanelOutputs, V::zero());
  multiply_byte_rows<V, 1, kPackedRows, Block>(&panel, p.k / kBlock, static_cast<const Block*>(p.x), p.x_stride, p.rows,
                                               acc, 0);
  store_panel<V>(p, index, 0, p.rows, acc);
}

// Panels [index, index + kPanels) of all rows.
template <class V, WeightType kType, int kPanels, class Block>
static void multiply_panels(const LinearParams& p, int64_t index) {
  using Packed = PackedBytes<V, kType>;
  const int64_t blocks = p.k / kBlock;
  alignas(64) float acc[kPanels * kRowBlock * kPanelOutputs];
  UnpackedBytesBlock unpacked[kPanels][kChunkBlocks];
  UnpackedBytes<V, Packed::kHalves, Packed::kMinimum> chunk[kPanels];
  for (int i = 0; i < kPanels; ++i) chunk[i].blocks = unpacked[i];
  for (int64_t row = 0; row < p.rows; row += kRowBlock) {
    const int64_t rows = p.rows - row < kRowBlock ? p.rows - row : kRowBlock;
    const int64_t acc_stride = rows * kPanelOutputs;
    const Block* x = static_cast<const Block*>(p.x) + row * p.x_stride;
    for (int64_t i = 0; i < kPanels * rows; ++i) V::store(acc + i * kPanelOutputs, V::zero());
    for (int64_t b = 0; b < blocks; b += kChunkBlocks) {
      const int64_t count = blocks - b < kChunkBlocks ? blocks - b : kChunkBlocks;
      for (int i = 0; i < kPanels; ++i) {
        unpack_bytes<V, kType>(panel_of<kType>(p, index + i), b, count, unpacked[i]);
      }
      multiply_byte_rows<V, kPanels, kTileRows, Block>(chunk, count, x + b, p.x_stride, rows, acc, acc_stride);
    }
    for (int i = 0; i < kPanels; ++i) store_panel<V>(p, index + i, row, rows, acc + i * acc_stride);
  }
}

template <class V, WeightType kType, class Block>
static void multiply_byte_type(const LinearParams& p) {
  int64_t index = p.panel_begin;
  if (p.rows <= kPackedRows) {
    for (; index < p.panel_end; ++index) multiply_packed_panel<V, kType, Block>(p, index);
    return;
  }
  for (; index + kTilePanels <= p.panel_end; index += kTilePanels) {
    multiply_panels<V, kType, kTilePanels, Block>(p, index);
  }
  if (index < p.panel_end) multiply_panels<V, kType, 1, Block>(p, index);
}

template <class V, class Block>
static void linear_bytes(const LinearParams& p) {
  for_kernel_type(
      p.type, [&]<WeightType kType>() __attribute__((always_inline)) {
        if constexpr (panel_format(kType).quantised) multiply_byte_type<V, kType, Block>(p);
      });
}

}  // namespace kvass
