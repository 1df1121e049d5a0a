// A device to run programs on: its runtime, and what launches each kernel there. One table for each runtime that a
// build has; who holds a table needs to know nothing more of the device. Launches do not wait.
#pragma once

#include "device/runtime.h"
#include "kernels/argmax/device.h"
#include "kernels/attention/device.h"
#include "kernels/attention_gradient/device.h"
#include "kernels/copy_tensor/device.h"
#include "kernels/elementwise/device.h"
#include "kernels/linear/device.h"
#include "kernels/rms_norm/device.h"
#include "ops/cache_write/device.h"

namespace kvass {

struct DeviceKernels {
  const DeviceRuntime* runtime;
#define KVASS_DEVICE_KERNEL(name, Params) Status (*name)(const Params& params, DeviceStream stream);
#include "ops/device_kernels.inc"
#undef KVASS_DEVICE_KERNEL
};

// Of a device that is not the CPU; an error where this build has it not, or this machine none.
Result<const DeviceKernels*> device_kernels(Device device);

namespace cuda {
extern const DeviceKernels device_kernels;
}
namespace rocm {
extern const DeviceKernels device_kernels;
}
namespace emulated {
extern const DeviceKernels device_kernels;
}

}  // namespace kvass
