// The largest element of a row and its index, the lowest of equal elements. NaN is never chosen; +0 and -0 are equal.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

struct Argmax {
  int64_t index = -1;  // -1: the row is empty or has only NaN
  float value = 0.0f;  // x[index]; 0 if index is -1
};

// x: [n]
using ArgmaxKernel = Argmax (*)(const float* x, int64_t n);
KVASS_DECLARE_KERNEL(ArgmaxKernel, argmax)

}  // namespace kvass
