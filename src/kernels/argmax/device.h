// argmax.h on a device, for rows of logits.
#pragma once

#include <cstdint>

#include "device/dispatch.h"
#include "kernels/argmax/argmax.h"

namespace kvass {

inline constexpr int64_t kArgmaxParts = 64;  // parts of a row; a block of threads computes one part

struct DeviceArgmaxParams {
  const float* x = nullptr;  // [rows][n]
  int64_t rows = 0;
  int64_t n = 0;
  uint64_t* parts = nullptr;  // [rows][kArgmaxParts], scratch
  Argmax* result = nullptr;   // [rows]
};
KVASS_DECLARE_DEVICE_KERNEL(DeviceArgmaxParams, argmax)

}  // namespace kvass
