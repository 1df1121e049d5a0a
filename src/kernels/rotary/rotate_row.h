// Rotates the heads of a row by the angles of its position. With a, b the elements of pair i < h = head_dim / 2 of each
// head,
//   y[a] = fma(x[a], cos[i], -(x[b] · sin[i]))
//   y[b] = fma(x[b], cos[i],   x[a] · sin[i])
// rotate_row pairs the halves of a head, (a, b) = (i, i + h); rotate_adjacent pairs neighbours, (2i, 2i + 1). The
// product with sin is rounded first. The angles come from rotary.h.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

// x, y: [heads][head_dim], y may be x; cos, sin: [head_dim / 2], shared by the heads.
using RotateRowKernel = void (*)(const float* x, const float* cos, const float* sin, float* y, int64_t heads,
                                 int64_t head_dim);
KVASS_DECLARE_KERNEL(RotateRowKernel, rotate_row)
KVASS_DECLARE_KERNEL(RotateRowKernel, rotate_adjacent)

// The kernel for RotaryParams::interleaved.
inline RotateRowKernel rotation_for(Isa isa, bool interleaved) {
  return interleaved ? rotate_adjacent_for(isa) : rotate_row_for(isa);
}

}  // namespace kvass
