// y = x Wᵀ for few rows on a device: bound by reading the weights. Device code.
//
// A block of threads takes a panel and up to eight rows. All of its threads read the panel, a chunk of it at a time,
// and leave the links of the chains in shared memory (integer dots and factors, or weights); then a thread for each
// output and row runs along its own chain.
#pragma once

#include "kernels/linear/cuda_dots.h"
#include "kernels/linear/cuda_panel.h"

namespace kvass::KVASS_DEVICE {

constexpr int kFewThreads = 128;
constexpr int kFewParts = kFewThreads / kPanelOutputs;  // threads that share an output
constexpr int kFewRows = kFewParts;                     // most rows of a block of threads

// Links of one block's chain: for each weight scale one, and one more for a minimum.
template <WeightType kType>
constexpr int kScaleTerms = panel_format(kType).minimum ? 2 : 1;
template <WeightType kType>
constexpr int kBlockTerms = Panel<kType>::kScales* kScaleTerms<kType>;

template <int kRows>
constexpr int kFewBlocks = kRows == 1 ? 64 : 16;  // in a chunk
constexpr int kFewFloats = 128;                   // k's in a chunk of float weights

template <WeightType kType, int kRows>
constexpr size_t few_shared() {
  return static_cast<size_t>(kFewBlocks<kRows> * kBlockTerms<kType> * kRows * kPanelOutputs) * sizeof(Term);
}

template <WeightType kType, class Block, int kRows>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kFewThreads) linear_few(const LinearTask task) {
  using A = Activation<Block>;
  using P = Panel<kType>;
  constexpr int kTerms = kBlockTerms<kType>;
  constexpr int kChunk = kFewBlocks<kRows>;
  Term* terms = reinterpret_cast<Term*>(shared_memory());  // [blocks of the chunk][kTerms][kRows][16]
  const int lane = thread_index() % kPanelOutputs;
  const int part = thread_index() / kPanelOutputs;
  const PanelGroup<1> group(task.p, block_x());
  const P panel{group.target.panels + group.panel * task.panel_bytes, lane, task.values};
  const int64_t row = block_y() * kRows;
  const int rows = static_cast<int>(task.p.rows - row < kRows ? task.p.rows - row : kRows);
  const int64_t blocks = task.p.k / kBlock;
  const uint32_t* x = static_cast<const uint32_t*>(task.p.x) + row * task.p.x_stride * A::kWords;

  float acc = 0.0f;  // of row `part`
  for (int64_t begin = 0; begin < blocks; begin += kChunk) {
    const int count = static_cast<int>(blocks - begin < kChunk ? blocks - begin : kChunk);
    for (int b = part; b < count; b += kFewParts) {
      uint32_t words[8];
      panel.quants(begin + b, words);
      float scales[2], minima[2];
      KVASS_UNROLL
      for (int h = 0; h < P::kScales; ++h) {
        scales[h] = panel.scale(begin + b, h);
        if constexpr (P::kFormat.minimum) minima[h] = panel.minimum(begin + b, h);
      }
      KVASS_UNROLL
      for (int g = 0; g < 8; ++g) words[g] = A::arrange(words[g]);
      for (int r = 0; r < rows; ++r) {
        const uint32_t* block = x + (r * task.p.x_stride + begin + b) * A::kWords;
        const float s = float_from_bits(block[A::kQuantWords]);
        Term* out = terms + (b * kTerms * kRows + r) * kPanelOutputs + lane;
        KVASS_UNROLL
        for (int h = 0; h < P::kScales; ++h) {
          int32_t dot = 0;
          KVASS_UNROLL
          for (int g = 0; g < 8 / P::kScales; ++g) {
            const int at = h * (8 / P::kScales) + g;
            dot = A::dot(block, at, words[at], dot);
          }
          Term* of_scale = out + h * kScaleTerms<kType> * kRows * kPanelOutputs;
          of_scale[0] = {static_cast<float>(dot), mul_rn(scales[h], s)};
          if constexpr (P::kFormat.minimum) {
            const float sum = sum_for_minimum<Block, P::kHalfMinima>(block, h);
            of_scale[kRows * kPanelOutputs] = {sum, -mul_rn(minima[h], s)};
          }
        }
      }
    }
    barrier();
    if (part < rows) {
      for (int i = 0; i < count * kTerms; ++i) {
        const Term term = terms[(i * kRows + part) * kPanelOutputs + lane];
        acc = fma_rn(term.a, term.b, acc);
      }
    }
    barrier();
  }
  const int64_t output = group.panel * kPanelOutputs + lane;
  if (part < rows && output < group.target.n) group.target.y[(row + part) * group.target.y_stride + output] = acc;
}

// Weights [k's from `begin` on, `count` of them][16] to `out`, by all kThreads threads; count is a multiple of 32 where
// the type is quantised.
template <WeightType kType, int kThreads>
KVASS_DEVICE_FN void stage_floats(const uint8_t* panel, ValueBytes values, int64_t begin, int count, float* out) {
  using P = Panel<kType>;
  const int lane = thread_index() % kPanelOutputs;
  const int part = thread_index() / kPanelOutputs;
  const P weights{panel, lane, values};
  if constexpr (!P::kFormat.quantised) {
    for (int k = part; k < count; k += kThreads / kPanelOutputs) {
      out[k * kPanelOutputs + lane] = weights.element(begin + k);
    }
  } else {
    for (int b = part; b < count / kBlock; b += kThreads / kPanelOutputs) {
      const int64_t block = begin / kBlock + b;
      uint32_t words[8];
      weights.quants(block, words);
      KVASS_UNROLL
      for (int h = 0; h < P::kScales; ++h) {
        const float scale = weights.scale(block, h);
        float minimum = 0.0f;
        if constexpr (P::kFormat.minimum) minimum = weights.minimum(block, h);
        KVASS_UNROLL
        for (int i = h * kBlock / P::kScales; i < (h + 1) * kBlock / P::kScales; ++i) {
          float w = mul_rn(scale, P::quant(words, i));
          if constexpr (P::kFormat.minimum) w = sub_rn(w, minimum);
          out[(b * kBlock + i) * kPanelOutputs + lane] = w;
        }
      }
    }
  }
}

constexpr size_t few_float_shared() { return kFewFloats * (kPanelOutputs + kFewRows) * sizeof(float); }

template <WeightType kType>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kFewThreads) linear_few_f32(const LinearTask task) {
  float* weights = reinterpret_cast<float*>(shared_memory());  // [kFewFloats][16]
  float* inputs = weights + kFewFloats * kPanelOutputs;        // [rows][kFewFloats]
  const int lane = thread_index() % kPanelOutputs;
  const int part = thread_index() / kPanelOutputs;
  const PanelGroup<1> group(task.p, block_x());
  const int64_t row = block_y() * kFewRows;
  const int rows = static_cast<int>(task.p.rows - row < kFewRows ? task.p.rows - row : kFewRows);
  const float* x = static_cast<const float*>(task.p.x) + row * task.p.x_stride;

  float acc = 0.0f;
  for (int64_t begin = 0; begin < task.p.k; begin += kFewFloats) {
    const int count = static_cast<int>(task.p.k - begin < kFewFloats ? task.p.k - begin : kFewFloats);
    stage_floats<kType, kFewThreads>(group.target.panels + group.panel * task.panel_bytes, task.values, begin, count,
                                     weights);
    for (int i = thread_index(); i < rows * kFewFloats; i += kFewThreads) {
      const int k = i % kFewFloats;
      if (k < count) inputs[i] = x[i / kFewFloats * task.p.x_stride + begin + k];
    }
    barrier();
    if (part < rows) {
      for (int k = 0; k < count; ++k) {
        acc = fma_rn(inputs[part * kFewFloats + k], weights[k * kPanelOutputs + lane], acc);
      }
    }
    barrier();
  }
  const int64_t output = group.panel * kPanelOutputs + lane;
  if (part < rows && output < group.target.n) group.target.y[(row + part) * group.target.y_stride + output] = acc;
}

}  // namespace kvass::KVASS_DEVICE
