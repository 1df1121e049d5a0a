// y = x Wᵀ for many rows on a device with matrix units for bytes: exact integer dots of a block of 32 k's, 16 outputs
// and 8 rows in one instruction; the chains are then folded as everywhere. Device code.
//
// A block of threads takes four panels, one a warp, and 64 rows, whose activations lie in shared memory, a chunk at a
// time, as bytes; 16-bit ones as two of them, q = 256 high + low. A warp's weights go from the panel straight into the
// registers in which the instruction takes them.
#pragma once

#include "kernels/linear/cuda_few.h"

namespace kvass::KVASS_DEVICE {

// c [16][8] += a [16][32] b [32][8] of signed bytes over the lanes of a warp. Lane 4 g + t holds of a the words t and t
// + 4 (k's 4 t … 4 t + 3 and 16 more) of rows g and g + 8, of b the words t and t + 4 of column g, of c the columns 2 t
// and 2 t + 1 of rows g and g + 8. multiply_bytes16 is the same for k's 0 … 15 alone.
#if defined(KVASS_EMULATE_CUDA)
struct ByteFragments {
  uint32_t a[4], b[2];
};
KVASS_DEVICE_FN void multiply_words(int32_t (&c)[4], const ByteFragments& mine, int words) {
  exchange(Meeting::matrix, &mine, sizeof mine);
  const int lane = thread_index() % 32;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4, column = lane % 4 * 2 + i % 2;
    for (int t = 0; t < 4; ++t) {
      const auto a = exchanged_value<ByteFragments>(row * 4 + t);
      const auto b = exchanged_value<ByteFragments>(column * 4 + t);
      for (int word = 0; word < words; ++word) {
        c[i] = dot4(static_cast<int32_t>(a.a[2 * word + i / 2]), static_cast<int32_t>(b.b[word]), c[i]);
      }
    }
  }
}
KVASS_DEVICE_FN void multiply_bytes32(int32_t (&c)[4], const uint32_t* a, const uint32_t* b) {
  multiply_words(c, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, 2);
}
KVASS_DEVICE_FN void multiply_bytes16(int32_t (&c)[4], const uint32_t* a, const uint32_t* b) {
  multiply_words(c, {{a[0], a[1], 0, 0}, {b[0], 0}}, 1);
}
#else
KVASS_DEVICE_FN void multiply_bytes32(int32_t (&c)[4], const uint32_t* a, const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};\n"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
KVASS_DEVICE_FN void multiply_bytes16(int32_t (&c)[4], const uint32_t* a, const uint32_t* b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\n"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
#endif

constexpr int kMatrixThreads = 128;
constexpr int kMatrixPanels = kMatrixThreads / 32;
constexpr int kMatrixRows = 64;
constexpr int kMatrixTiles = kMatrixRows / 8;  // of 8 rows
constexpr int kMatrixBlocks = 4;               // in a chunk

// The rows of a chunk in shared memory, with a sum of each block or, kHalfSums, of each of its halves.
template <class Block, bool kHalfSums>
struct MatrixChunk {
  using A = Activation<Block>;
  static constexpr int kPlanes = A::kQuantWords / 8;
  static constexpr int kRowWords = kMatrixBlocks * A::kQuantWords + 4;  // lanes of a warp read from different banks

  uint32_t x[kMatrixRows][kRowWords];  // [block][plane][8 words]
  float scales[kMatrixBlocks][kMatrixRows];
  static constexpr int kSums = kHalfSums ? 2 : 1;
  float sums[kMatrixBlocks][kSums][kMatrixRows];

  // Blocks [begin, begin + count) of `rows` rows; the others become zeros, which meet no other row.
  KVASS_METHOD void stage(const uint32_t* from, int64_t x_stride, int64_t begin, int count, int rows) {
    for (int i = thread_index(); i < kMatrixRows * kMatrixBlocks; i += kMatrixThreads) {
      const int r = i / kMatrixBlocks, b = i % kMatrixBlocks;
      if (b >= count) continue;
      uint32_t* out = x[r] + b * A::kQuantWords;
      if (r >= rows) {
        for (int w = 0; w < A::kQuantWords; ++w) out[w] = 0;
        scales[b][r] = 0.0f;
        for (int h = 0; h < kSums; ++h) sums[b][h][r] = 0.0f;
        continue;
      }
      const uint32_t* block = from + (r * x_stride + begin + b) * A::kWords;
      scales[b][r] = float_from_bits(block[A::kQuantWords]);
      KVASS_UNROLL
      for (int h = 0; h < kSums; ++h) sums[b][h][r] = sum_for_minimum<Block, kHalfSums>(block, h);
      KVASS_UNROLL
      for (int w = 0; w < 8; ++w) {
        if constexpr (kPlanes == 1) {
          out[w] = block[w];
        } else {  // k's 0 and 2 of a group, 1 and 3: to high bytes, rounded, and low ones
          const uint32_t even = block[2 * w], odd = block[2 * w + 1];
          out[w] = (rounded(even) >> 8 & 0x00ff00ffu) | (rounded(odd) & 0xff00ff00u);
          out[8 + w] = (even & 0x00ff00ffu) | (odd << 8 & 0xff00ff00u);
        }
      }
    }
  }

 private:
  // 128 added to each half; the halves are int16 of at most 32,639.
  KVASS_METHOD static uint32_t rounded(uint32_t pair) {
    return ((pair & 0x7fff7fffu) + 0x00800080u) ^ (pair & 0x80008000u);
  }
};

// A warp's weights of one block: what lane 4 g + t needs of outputs g and g + 8.
template <WeightType kType>
struct MatrixWeights {
  using P = Panel<kType>;
  uint32_t words[4];
  float scales[P::kScales][2];
  float minima[P::kScales][2];

  KVASS_METHOD void load(const uint8_t* panel, ValueBytes values, int64_t b) {
    const int lane = thread_index() % 32, t = lane % 4;
    KVASS_UNROLL
    for (int half = 0; half < 2; ++half) {
      const P output{panel, lane / 4 + 8 * half, values};
      output.two_quants(b, t, words[half], words[2 + half]);
      KVASS_UNROLL
      for (int h = 0; h < P::kScales; ++h) {
        scales[h][half] = output.scale(b, h);
        if constexpr (P::kFormat.minimum) minima[h][half] = output.minimum(b, h);
      }
    }
  }
};

template <WeightType kType, class Block>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kMatrixThreads) linear_matrix(const LinearTask task) {
  using P = Panel<kType>;
  using A = Activation<Block>;
  using Chunk = MatrixChunk<Block, P::kHalfMinima>;
  constexpr int kPlanes = Chunk::kPlanes;
  auto& chunk = *reinterpret_cast<Chunk*>(shared_memory());
  const int lane = thread_index() % 32, g = lane / 4, t = lane % 4;
  const PanelGroup<kMatrixPanels> group(task.p, block_x());
  const int64_t last_panel = panel_groups<1>(group.target.n) - 1;
  const int64_t index = group.panel + thread_index() / 32;
  const uint8_t* panel = group.target.panels + (index < last_panel ? index : last_panel) * task.panel_bytes;
  const int64_t row = block_y() * kMatrixRows;
  const int rows = static_cast<int>(task.p.rows - row < kMatrixRows ? task.p.rows - row : kMatrixRows);
  const int tiles = (rows + 7) / 8;
  const int64_t blocks = task.p.k / kBlock;
  const uint32_t* x = static_cast<const uint32_t*>(task.p.x) + row * task.p.x_stride * A::kWords;

  float acc[kMatrixTiles][4] = {};  // outputs g, g, g + 8, g + 8; rows 2 t, 2 t + 1, 2 t, 2 t + 1 of the tile
  for (int64_t begin = 0; begin < blocks; begin += kMatrixBlocks) {
    const int count = static_cast<int>(blocks - begin < kMatrixBlocks ? blocks - begin : kMatrixBlocks);
    MatrixWeights<kType> weights[kMatrixBlocks];
    KVASS_UNROLL
    for (int b = 0; b < kMatrixBlocks; ++b) {
      if (b < count) weights[b].load(panel, task.values, begin + b);
    }
    chunk.stage(x, task.p.x_stride, begin, count, rows);
    barrier();
    KVASS_UNROLL
    for (int b = 0; b < kMatrixBlocks; ++b) {
      if (b >= count) continue;
      const MatrixWeights<kType>& w = weights[b];
      KVASS_UNROLL
      for (int tile = 0; tile < kMatrixTiles; ++tile) {
        if (tile >= tiles) continue;
        const uint32_t* from = chunk.x[tile * 8 + g] + b * A::kQuantWords + t;
        const float* s = chunk.scales[b] + tile * 8 + 2 * t;
        KVASS_UNROLL
        for (int part = 0; part < P::kScales; ++part) {
          int32_t dots[kPlanes][4] = {};
          KVASS_UNROLL
          for (int plane = 0; plane < kPlanes; ++plane) {
            if constexpr (P::kScales == 1) {
              const uint32_t two[2] = {from[plane * 8], from[plane * 8 + 4]};
              multiply_bytes32(dots[plane], w.words, two);
            } else {
              multiply_bytes16(dots[plane], w.words + 2 * part, from + plane * 8 + 4 * part);
            }
          }
          KVASS_UNROLL
          for (int i = 0; i < 4; ++i) {
            const int32_t dot = kPlanes == 1 ? dots[0][i] : dots[0][i] * 256 + dots[kPlanes - 1][i];
            acc[tile][i] = fma_rn(static_cast<float>(dot), mul_rn(w.scales[part][i / 2], s[i % 2]), acc[tile][i]);
          }
          if constexpr (P::kFormat.minimum) {
            const float* sums = chunk.sums[b][part] + tile * 8 + 2 * t;
            KVASS_UNROLL
            for (int i = 0; i < 4; ++i) {
              acc[tile][i] = fma_rn(sums[i % 2], -mul_rn(w.minima[part][i / 2], s[i % 2]), acc[tile][i]);
            }
          }
        }
      }
    }
    barrier();
  }
  if (index > last_panel) return;
  KVASS_UNROLL
  for (int tile = 0; tile < kMatrixTiles; ++tile) {
    KVASS_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int64_t output = index * kPanelOutputs + g + i / 2 * 8;
      const int r = tile * 8 + 2 * t + i % 2;
      if (output < group.target.n && r < rows)
        group.target.y[(row + r) * group.target.y_stride + output] = acc[tile][i];
    }
  }
}

}  // namespace kvass::KVASS_DEVICE
