#include "device/code.h"
#include "ops/device_kernels.h"

namespace kvass::KVASS_DEVICE {

constinit const DeviceKernels device_kernels = {
    &device_runtime,
#define KVASS_DEVICE_KERNEL(name, Params) &name,
#include "ops/device_kernels.inc"
#undef KVASS_DEVICE_KERNEL
};

}  // namespace kvass::KVASS_DEVICE
