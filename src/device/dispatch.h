// Declares the function that launches a kernel on a device: once in the kernel's folder, for every runtime that a build
// may have (device/code.h). ops/device_kernels.h chooses the runtime.
#pragma once

#include "device/runtime.h"

// Status name(const Params& params, DeviceStream stream): launches on the device stream and does not wait. `params` is
// copied before the call returns; all its pointers are to device memory.
#define KVASS_DECLARE_DEVICE_KERNEL(Params, name)         \
  namespace cuda {                                        \
  Status name(const Params& params, DeviceStream stream); \
  }                                                       \
  namespace rocm {                                        \
  Status name(const Params& params, DeviceStream stream); \
  }                                                       \
  namespace emulated {                                    \
  Status name(const Params& params, DeviceStream stream); \
  }
