// What `argmax_linear` has in its workspace, on the CPU and on devices: the activations as the product takes them,
// scratch, and outputs. Outputs come last, so that a few rows use the same places as many.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/argmax/device.h"
#include "ops/argmax_linear/argmax_linear.h"

namespace kvass {

struct ArgmaxLinearWorkspace {
  ArgmaxLinearWorkspace(Math math, int64_t rows, int64_t n, int64_t k)
      : scratch(activation_bytes(math, rows, k)),
        outputs(scratch + std::max(screen_bytes(n, k), static_cast<size_t>(rows * kArgmaxParts) * sizeof(uint64_t))),
        bytes(outputs + static_cast<size_t>(rows * n) * sizeof(float)) {}

  // The activations lie at 0. All are multiples of 64.
  size_t scratch;  // of the screen, or the parts of rows that a device divides
  size_t outputs;  // [rows][n]
  size_t bytes;
};

}  // namespace kvass
