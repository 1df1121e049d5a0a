// RMSNorm of rows: y[k] = (x[k] · r) · w[k] with r = 1 / sqrt(ss / n + epsilon), ss the row's sum of squares
// (docs/numerics.md, 3). The order: 16 lanes from +0; lane l takes the elements with k mod 16 = l ascending, ss[l] =
// fma(x, x, ss[l]); the lanes fold 8+8, 4+4, 2+2, 1+1. One rounding for each of: ss / n (n as a float), + epsilon,
// sqrt, the reciprocal, x · r, and times w. Also used per head: rows = token rows · heads, n = head_dim, one shared w.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

struct RmsNormArgs {
  const float* x = nullptr;  // [rows][n], rows x_stride floats apart
  const float* w = nullptr;  // [n]
  float* y = nullptr;        // [rows][n], rows y_stride floats apart; x itself (same stride) is allowed
  int64_t rows = 0;
  int64_t n = 0;         // 1 or more
  int64_t x_stride = 0;  // floats
  int64_t y_stride = 0;  // floats
  float epsilon = 0.0f;
};

using RmsNormKernel = void (*)(const RmsNormArgs& args);
KVASS_DECLARE_KERNEL(RmsNormKernel, rms_norm)

}  // namespace kvass
