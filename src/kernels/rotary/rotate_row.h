// Rotates the heads of a row by the angles of its position, NeoX halves: with h = head_dim / 2, for i < h of each head,
//   y[i]     = fma(x[i],     cos[i], -(x[i + h] · sin[i]))
//   y[i + h] = fma(x[i + h], cos[i],   x[i] · sin[i])
// The product with sin is rounded first. The angles come from rotary.h.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

// x, y: [heads][head_dim], y may be x; cos, sin: [head_dim / 2], shared by the heads.
using RotateRowKernel = void (*)(const float* x, const float* cos, const float* sin, float* y, int64_t heads,
                                 int64_t head_dim);
KVASS_DECLARE_KERNEL(RotateRowKernel, rotate_row)

}  // namespace kvass
