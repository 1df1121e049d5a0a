// The elementwise kernels: one rounding in each step, and the same operations for every element of a row.
//   add      y = a + b
//   scale    y = x · factor
//   softcap  y = cap · tanh(x / cap)     (softcap of functions.h)
//   gelu     y = (x / 2) · (1 + erf(x / sqrt(2)))     (gelu_erf of functions.h)
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

// a, b, y: [n]; y may be a or b.
using AddKernel = void (*)(const float* a, const float* b, float* y, int64_t n);
KVASS_DECLARE_KERNEL(AddKernel, add)

// x, y: [n]; y may be x.
using ScaleKernel = void (*)(const float* x, float factor, float* y, int64_t n);
KVASS_DECLARE_KERNEL(ScaleKernel, scale)

// x, y: [n]; y may be x; cap > 0.
using SoftcapKernel = void (*)(const float* x, float cap, float* y, int64_t n);
KVASS_DECLARE_KERNEL(SoftcapKernel, softcap)

// x, y: [n]; y may be x.
using GeluKernel = void (*)(const float* x, float* y, int64_t n);
KVASS_DECLARE_KERNEL(GeluKernel, gelu)

}  // namespace kvass
