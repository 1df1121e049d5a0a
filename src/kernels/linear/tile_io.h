// What the tiles of every kernel for quantised activations share: their blocks of rows, loads of activations, stores of
// results. Included by the units of one instruction set only. No state.
#pragma once

#include "kernels/linear/unpack.h"

namespace kvass {

inline constexpr int64_t kRowBlock = 128;  // rows whose accumulators are on the stack

KVASS_INLINE int32_t load_four(const void* bytes) {
  int32_t word;
  __builtin_memcpy(&word, bytes, 4);
  return word;
}

// acc [rows][16] to the columns of panel `index`.
template <class V>
static void store_panel(const LinearParams& p, int64_t index, int64_t row, int64_t rows, const float* acc) {
  const int64_t output = index * kPanelOutputs;
  float* y = p.y + row * p.y_stride + output;
  const int64_t outputs = p.n - output;
  for (int64_t r = 0; r < rows; ++r, y += p.y_stride, acc += kPanelOutputs) {
    if (outputs >= kPanelOutputs) {
      V::store(y, V::load(acc));
    } else {
      for (int64_t i = 0; i < outputs; ++i) y[i] = acc[i];
    }
  }
}

}  // namespace kvass
