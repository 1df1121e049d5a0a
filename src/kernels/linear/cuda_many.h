// y = x Wᵀ for many rows on a device: bound by arithmetic. Device code.
//
// A block of threads takes two panels and 64 rows. A chunk of the panels is unpacked into shared memory beside the
// rows' activations; each thread then runs along the chains of two outputs and eight rows.
#pragma once

#include "kernels/linear/cuda_few.h"

namespace kvass::KVASS_DEVICE {

constexpr int kManyThreads = 128;
constexpr int kManyPanels = 2;
constexpr int kThreadRows = 8;
constexpr int kManyRows = kManyThreads / kPanelOutputs * kThreadRows;
constexpr int kManyBlocks = 4;   // in a chunk
constexpr int kManyFloats = 32;  // k's in a chunk of float weights

struct alignas(16) Words4 {
  uint32_t word[4];
};

// The shared memory of linear_many.
template <WeightType kType, class Block>
struct ManyChunk {
  using A = Activation<Block>;
  using P = Panel<kType>;
  static constexpr int kRowWords = kManyBlocks * A::kQuantWords + 4;  // rows that are read together lie in other banks

  alignas(16) uint32_t x[kManyRows][kRowWords];
  static constexpr int kSums = P::kHalfMinima ? 2 : 1;
  Term scale_and_sum[kManyRows][kManyBlocks][kSums];
  uint32_t quants[kManyPanels][kManyBlocks][8][kPanelOutputs];
  float scales[kManyPanels][kManyBlocks][P::kScales][kPanelOutputs];
  float minima[kManyPanels][kManyBlocks][kSums][kPanelOutputs];

  // Blocks [begin, begin + count) of rows of activations; rows beyond `rows` are left as they are.
  KVASS_METHOD void stage_rows(const uint32_t* from, int64_t x_stride, int64_t begin, int count, int rows) {
    for (int i = thread_index(); i < rows * kManyBlocks; i += kManyThreads) {
      const int r = i / kManyBlocks, b = i % kManyBlocks;
      if (b >= count) continue;
      const uint32_t* block = from + (r * x_stride + begin + b) * A::kWords;
      KVASS_UNROLL
      for (int w = 0; w < A::kQuantWords; ++w) x[r][b * A::kQuantWords + w] = block[w];
      KVASS_UNROLL
      for (int h = 0; h < kSums; ++h) {
        scale_and_sum[r][b][h] = {float_from_bits(block[A::kQuantWords]),
                                  sum_for_minimum<Block, P::kHalfMinima>(block, h)};
      }
    }
  }
  KVASS_METHOD void stage_weights(const uint8_t* panels, const LinearTask& task, int panels_count, int64_t begin,
                                  int count) {
    for (int i = thread_index(); i < panels_count * kManyBlocks * kPanelOutputs; i += kManyThreads) {
      const int lane = i % kPanelOutputs, b = i / kPanelOutputs % kManyBlocks, index = i / kPanelOutputs / kManyBlocks;
      if (b >= count) continue;
      const P panel{panels + index * task.panel_bytes, lane, task.values};
      uint32_t words[8];
      panel.quants(begin + b, words);
      KVASS_UNROLL
      for (int g = 0; g < 8; ++g) quants[index][b][g][lane] = A::arrange(words[g]);
      KVASS_UNROLL
      for (int h = 0; h < P::kScales; ++h) {
        scales[index][b][h][lane] = panel.scale(begin + b, h);
        if constexpr (P::kFormat.minimum) minima[index][b][h][lane] = panel.minimum(begin + b, h);
      }
    }
  }
};

template <WeightType kType, class Block>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kManyThreads) linear_many(const LinearTask task) {
  using A = Activation<Block>;
  using P = Panel<kType>;
  constexpr int kParts = P::kScales, kGroups = 8 / kParts, kPartWords = A::kQuantWords / kParts;
  auto& chunk = *reinterpret_cast<ManyChunk<kType, Block>*>(shared_memory());
  const int lane = thread_index() % kPanelOutputs;
  const int first = thread_index() / kPanelOutputs * kThreadRows;
  const PanelGroup<kManyPanels> group(task.p, block_x());
  const int64_t left = panel_groups<1>(group.target.n) - group.panel;
  const int panels = left < kManyPanels ? static_cast<int>(left) : kManyPanels;
  const int64_t row = block_y() * kManyRows;
  const int rows = static_cast<int>(task.p.rows - row < kManyRows ? task.p.rows - row : kManyRows);
  const int64_t blocks = task.p.k / kBlock;
  const uint32_t* x = static_cast<const uint32_t*>(task.p.x) + row * task.p.x_stride * A::kWords;

  float acc[kManyPanels][kThreadRows] = {};
  for (int64_t begin = 0; begin < blocks; begin += kManyBlocks) {
    const int count = static_cast<int>(blocks - begin < kManyBlocks ? blocks - begin : kManyBlocks);
    chunk.stage_rows(x, task.p.x_stride, begin, count, rows);
    chunk.stage_weights(group.target.panels + group.panel * task.panel_bytes, task, panels, begin, count);
    barrier();
    for (int b = 0; b < count && first < rows; ++b) {
      KVASS_UNROLL
      for (int part = 0; part < kParts; ++part) {
        uint32_t words[kManyPanels][kGroups];
        float scales[kManyPanels];
        KVASS_UNROLL
        for (int p = 0; p < kManyPanels; ++p) {
          scales[p] = chunk.scales[p][b][part][lane];
          KVASS_UNROLL
          for (int g = 0; g < kGroups; ++g) words[p][g] = chunk.quants[p][b][part * kGroups + g][lane];
        }
        KVASS_UNROLL
        for (int r = 0; r < kThreadRows; ++r) {
          uint32_t quants[kPartWords];
          const uint32_t* from = chunk.x[first + r] + b * A::kQuantWords + part * kPartWords;
          KVASS_UNROLL
          for (int w = 0; w < kPartWords; w += 4) {
            const Words4 four = *reinterpret_cast<const Words4*>(from + w);
            KVASS_UNROLL
            for (int i = 0; i < 4; ++i) quants[w + i] = four.word[i];
          }
          const Term block = chunk.scale_and_sum[first + r][b][P::kHalfMinima ? part : 0];
          KVASS_UNROLL
          for (int p = 0; p < kManyPanels; ++p) {
            int32_t dot = 0;
            KVASS_UNROLL
            for (int g = 0; g < kGroups; ++g) dot = A::dot(quants, g, words[p][g], dot);
            acc[p][r] = fma_rn(static_cast<float>(dot), mul_rn(scales[p], block.a), acc[p][r]);
            if constexpr (P::kFormat.minimum) {
              acc[p][r] = fma_rn(block.b, -mul_rn(chunk.minima[p][b][part][lane], block.a), acc[p][r]);
            }
          }
        }
      }
    }
    barrier();
  }
  KVASS_UNROLL
  for (int p = 0; p < kManyPanels; ++p) {
    const int64_t output = (group.panel + p) * kPanelOutputs + lane;
    KVASS_UNROLL
    for (int r = 0; r < kThreadRows; ++r) {
      if (output < group.target.n && first + r < rows) {
        group.target.y[(row + first + r) * group.target.y_stride + output] = acc[p][r];
      }
    }
  }
}

// The shared memory of linear_many_f32. Inputs lie k by k, so that a thread's rows are neighbours.
struct ManyFloats {
  alignas(16) float x[kManyFloats][kManyRows + 4];
  float weights[kManyPanels][kManyFloats * kPanelOutputs];
};

template <WeightType kType>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kManyThreads) linear_many_f32(const LinearTask task) {
  auto& chunk = *reinterpret_cast<ManyFloats*>(shared_memory());
  const int lane = thread_index() % kPanelOutputs;
  const int first = thread_index() / kPanelOutputs * kThreadRows;
  const PanelGroup<kManyPanels> group(task.p, block_x());
  const int64_t left = panel_groups<1>(group.target.n) - group.panel;
  const int panels = left < kManyPanels ? static_cast<int>(left) : kManyPanels;
  const int64_t row = block_y() * kManyRows;
  const int rows = static_cast<int>(task.p.rows - row < kManyRows ? task.p.rows - row : kManyRows);
  const float* x = static_cast<const float*>(task.p.x) + row * task.p.x_stride;

  float acc[kManyPanels][kThreadRows] = {};
  for (int64_t begin = 0; begin < task.p.k; begin += kManyFloats) {
    const int count = static_cast<int>(task.p.k - begin < kManyFloats ? task.p.k - begin : kManyFloats);
    for (int p = 0; p < panels; ++p) {
      const uint8_t* panel = group.target.panels + (group.panel + p) * task.panel_bytes;
      stage_floats<kType, kManyThreads>(panel, task.values, begin, count, chunk.weights[p]);
    }
    for (int i = thread_index(); i < rows * kManyFloats; i += kManyThreads) {
      const int r = i / kManyFloats, k = i % kManyFloats;
      if (k < count) chunk.x[k][r] = x[r * task.p.x_stride + begin + k];
    }
    barrier();
    for (int k = 0; k < count && first < rows; ++k) {
      float w[kManyPanels];
      KVASS_UNROLL
      for (int p = 0; p < kManyPanels; ++p) w[p] = chunk.weights[p][k * kPanelOutputs + lane];
      KVASS_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const float input = chunk.x[k][first + r];
        KVASS_UNROLL
        for (int p = 0; p < kManyPanels; ++p) acc[p][r] = fma_rn(input, w[p], acc[p][r]);
      }
    }
    barrier();
  }
  KVASS_UNROLL
  for (int p = 0; p < kManyPanels; ++p) {
    const int64_t output = (group.panel + p) * kPanelOutputs + lane;
    KVASS_UNROLL
    for (int r = 0; r < kThreadRows; ++r) {
      if (output < group.target.n && first + r < rows) {
        group.target.y[(row + first + r) * group.target.y_stride + output] = acc[p][r];
      }
    }
  }
}

}  // namespace kvass::KVASS_DEVICE
