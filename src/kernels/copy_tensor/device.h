// Copies a strided tensor of four dimensions to another on a device, bit for bit. They must not overlap.
#pragma once

#include <cstdint>

#include "device/dispatch.h"

namespace kvass {

struct DeviceCopyParams {
  const void* from = nullptr;
  void* to = nullptr;
  int64_t element_bytes = 4;  // 4 or 2
  int64_t shape[4] = {};
  int64_t from_strides[4] = {};  // elements
  int64_t to_strides[4] = {};
};
KVASS_DECLARE_DEVICE_KERNEL(DeviceCopyParams, copy_tensor)

}  // namespace kvass
