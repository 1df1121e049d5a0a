// The largest element of a row and the lowest index that holds it. NaN is never chosen; +0 and -0 are equal.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

struct Argmax {
  int64_t index = -1;  // -1: the row holds nothing but NaN, or nothing
  float value = 0.0f;  // x[index]; 0 when index is -1
};

// x: [n]
using ArgmaxKernel = Argmax (*)(const float* x, int64_t n);
KVASS_DECLARE_KERNEL(ArgmaxKernel, argmax)

}  // namespace kvass
