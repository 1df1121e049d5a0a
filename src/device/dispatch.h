// How a kernel folder declares what launches its kernel on a device: once, for each runtime that a build may have
// (device/code.h). Which runtime a program runs on is chosen in one place, ops/device_kernels.h.
#pragma once

#include "device/runtime.h"

// Status name(const Params& params, DeviceStream stream): launches on the stream and does not wait; `params` is taken
// before it returns, all its pointers are to the device's memory.
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
