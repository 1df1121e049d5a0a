// The linear operator (linear.h) on a device: the same arguments in its memory, the same bits. Launches and does not
// wait.
#pragma once

#include <cstdint>
#include <span>

#include "ops/device_kernels.h"
#include "ops/linear/linear.h"

namespace kvass {

// x [rows][k], rows x_stride floats apart. `activation_scratch` has activation_bytes(math, rows, k). At most
// DeviceLinearParams::kMostTargets targets; no y may overlap x, the scratch or another y.
Status linear(const float* x, int64_t x_stride, int64_t rows, int64_t k, std::span<const LinearTarget> targets,
              Math math, void* activation_scratch, const DeviceKernels& kernels, DeviceStream stream);

}  // namespace kvass
