// A device that runs programs: its runtime, and a launch function for each kernel. There is one table for each runtime
// of a build; a table is all that its user needs to know of the device. Launches do not wait.
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

// The table of a device other than the CPU. An error if this build does not support it or this machine has none.
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
