// The fast kernels for float activations and the quantisers, written once over a lane set V (simd/*.h): see linear.h
// for the formulas. Included by the units of one instruction set only. No state; all scratch is on the stack.
//
// A panel's weights become floats a chunk at a time, and R rows x P panels of chains run along it in registers: many
// rows of one panel, or one row of several panels, so that enough independent chains hide the latency of an fma.
#pragma once

#include "kernels/linear/unpack.h"

namespace kvass {

inline constexpr int64_t kFloatRows = 256;      // k's in a chunk, times panels
inline constexpr int64_t kFloatRowBlock = 128;  // rows whose accumulators are on the stack
inline constexpr int kFloatPanels = 4;          // panels at a time, for one row

// acc [P][R rows, acc_stride floats between panels][16] += w [P panels, w_stride floats apart][count][16] · x [R
// rows][count]
template <class V, int kRows, int kPanels>
static __attribute__((noinline)) void float_tile(const float* w, int64_t w_stride, int64_t count, const float* x,
                                                 int64_t x_stride, float* acc, int64_t acc_stride) {
  using F = typename V::F;
  F chains[kPanels * kRows];
  unroll<kPanels * kRows>([&](auto i) __attribute__((always_inline)) {
    constexpr int at = decltype(i)::value;
    chains[at] = V::load(acc + at / kRows * acc_stride + at % kRows * kPanelOutputs);
  });
  for (int64_t k = 0; k < count; ++k) {
    unroll<kPanels>([&](auto panel) __attribute__((always_inline)) {
      constexpr int i = decltype(panel)::value;
      const F weights = V::load(w + i * w_stride + k * kPanelOutputs);
      unroll<kRows>([&](auto row) __attribute__((always_inline)) {
        constexpr int r = decltype(row)::value;
        chains[i * kRows + r] = V::fma(V::set1(x[r * x_stride + k]), weights, chains[i * kRows + r]);
      });
    });
  }
  unroll<kPanels * kRows>([&](auto i) __attribute__((always_inline)) {
    constexpr int at = decltype(i)::value;
    V::store(acc + at / kRows * acc_stride + at % kRows * kPanelOutputs, chains[at]);
  });
}

template <class V, int kRows>
static void float_rows(const float* w, int64_t count, const float* x, int64_t x_stride, int64_t rows, float* acc) {
  for (; rows >= kRows; rows -= kRows, x += kRows * x_stride, acc += kRows * kPanelOutputs) {
    float_tile<V, kRows, 1>(w, 0, count, x, x_stride, acc, 0);
  }
  if constexpr (kRows > 1) {
    constexpr int kFewer = kRows > 4 ? 4 : kRows / 2;
    if (rows > 0) float_rows<V, kFewer>(w, count, x, x_stride, rows, acc);
  }
}

// The weights of k's [k, k + count) as floats [count][16]: in `scratch`, or in the panel itself.
template <class V, WeightType kType>
static const float* float_weights(const PanelParts& panel, int64_t k, int64_t count, float* scratch) {
  if constexpr (kType == WeightType::F32) {
    return reinterpret_cast<const float*>(panel.cells) + k * kPanelOutputs;
  } else if constexpr (kType == WeightType::F16 || kType == WeightType::BF16) {
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(panel.cells) + k * kPanelOutputs;
    for (int64_t i = 0; i < count * kPanelOutputs; i += kPanelOutputs) {
      V::store(scratch + i, kType == WeightType::F16 ? V::load_f16(halves + i) : V::load_bf16(halves + i));
    }
  } else {
    Unpack<V, kType>::dequantise(panel, k / kBlock, count / kBlock, scratch);
  }
  return scratch;
}

template <class V>
static void store_outputs(const LinearParams& p, int64_t panel, int64_t row, int64_t rows, const float* acc) {
  const int64_t outputs = p.n - panel * kPanelOutputs;
  float* y = p.y + row * p.y_stride + panel * kPanelOutputs;
  for (int64_t r = 0; r < rows; ++r, y += p.y_stride, acc += kPanelOutputs) {
    if (outputs >= kPanelOutputs) {
      V::store(y, V::load(acc));
    } else {
      for (int64_t i = 0; i < outputs; ++i) y[i] = acc[i];
    }
  }
}

// One row, kPanels panels from `index`.
template <class V, WeightType kType, int kPanels>
static void float_row(const LinearParams& p, int64_t index) {
  constexpr int64_t kCount = kFloatRows / kPanels;
  alignas(64) float scratch[kFloatRows * kPanelOutputs];
  alignas(64) float acc[kPanels * kPanelOutputs];
  for (int i = 0; i < kPanels; ++i) V::store(acc + i * kPanelOutputs, V::zero());
  for (int64_t k = 0; k < p.k; k += kCount) {
    const int64_t count = p.k - k < kCount ? p.k - k : kCount;
    const float* weights = scratch;
    int64_t stride = kCount * kPanelOutputs;
    for (int i = 0; i < kPanels; ++i) {
      const PanelParts panel = panel_of<kType>(p, index + i);
      const float* w = float_weights<V, kType>(panel, k, count, scratch + i * stride);
      if (i == 0) weights = w;
    }
    if constexpr (kType == WeightType::F32) stride = panel_bytes(kType, p.k) / 4;
    float_tile<V, 1, kPanels>(weights, stride, count, static_cast<const float*>(p.x) + k, 0, acc, kPanelOutputs);
  }
  for (int i = 0; i < kPanels; ++i) store_outputs<V>(p, index + i, 0, 1, acc + i * kPanelOutputs);
}

template <class V, int kRows, WeightType kType>
static void multiply_floats(const LinearParams& p) {
  int64_t index = p.panel_begin;
  if (p.rows == 1) {
    for (; index + kFloatPanels <= p.panel_end; index += kFloatPanels) float_row<V, kType, kFloatPanels>(p, index);
    for (; index < p.panel_end; ++index) float_row<V, kType, 1>(p, index);
    return;
  }
  alignas(64) float scratch[kFloatRows * kPanelOutputs];
  alignas(64) float acc[kFloatRowBlock * kPanelOutputs];
  for (; index < p.panel_end; ++index) {
    const PanelParts panel = panel_of<kType>(p, index);
    for (int64_t row = 0; row < p.rows; row += kFloatRowBlock) {
      const int64_t rows = p.rows - row < kFloatRowBlock ? p.rows - row : kFloatRowBlock;
      const float* x = static_cast<const float*>(p.x) + row * p.x_stride;
      for (int64_t r = 0; r < rows; ++r) V::store(acc + r * kPanelOutputs, V::zero());
      for (int64_t k = 0; k < p.k; k += kFloatRows) {
        const int64_t count = p.k - k < kFloatRows ? p.k - k : kFloatRows;
        const float* w = float_weights<V, kType>(panel, k, count, scratch);
        float_rows<V, kRows>(w, count, x + k, p.x_stride, rows, acc);
      }
      store_outputs<V>(p, index, row, rows, acc);
    }
  }
}

template <class V, int kRows>
static void linear_floats(const LinearParams& p) {
  for_kernel_type(
      p.type, [&]<WeightType kType>() __attribute__((always_inline)) { multiply_floats<V, kRows, kType>(p); });
}

}  // namespace kvass
