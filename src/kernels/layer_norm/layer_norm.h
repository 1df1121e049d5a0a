// LayerNorm of rows: y[k] = fma((x[k] - mean) · r, w[k], b[k]) with mean = s / n, r = 1 / sqrt(ss / n + epsilon), s the
// row's sum, ss the sum of squares of x - mean (docs/numerics.md, 3: two passes). The order: 16 lanes from +0; lane l
// takes the elements with k mod 16 = l ascending, s[l] = s[l] + x, then ss[l] = fma(d, d, ss[l]) with d = x - mean; the
// lanes fold 8+8, 4+4, 2+2, 1+1. One rounding for each of: s / n (n as a float), ss / n, + epsilon, sqrt, the
// reciprocal, d, d · r, and the last fma.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

struct LayerNormArgs {
  const float* x = nullptr;  // [rows][n], rows without gaps
  const float* w = nullptr;  // [n]
  const float* b = nullptr;  // [n]
  float* y = nullptr;        // [rows][n]; x itself is allowed
  int64_t rows = 0;
  int64_t n = 0;  // 1 or more
  float epsilon = 0.0f;
};

using LayerNormKernel = void (*)(const LayerNormArgs& args);
KVASS_DECLARE_KERNEL(LayerNormKernel, layer_norm)

}  // namespace kvass
