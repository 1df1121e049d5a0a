// Elementwise operations on a device, with the bits of elementwise.h and gate.h. All pointers are to
// device memory.
#pragma once

#include <cstdint>

#include "device/dispatch.h"

namespace kvass {

// y = f(a, b), [n] each; y may be a or b.
struct DevicePairParams {
  const float* a = nullptr;
  const float* b = nullptr;
  float* y = nullptr;
  int64_t n = 0;
};
KVASS_DECLARE_DEVICE_KERNEL(DevicePairParams, add)        // a + b
KVASS_DECLARE_DEVICE_KERNEL(DevicePairParams, gelu_gate)  // gelu_tanh(a) · b
KVASS_DECLARE_DEVICE_KERNEL(DevicePairParams, silu_gate)  // silu(a) · b

// y [rows][width] = x + b [width]; y may be x.
struct DeviceBiasParams {
  const float* x = nullptr;
  const float* b = nullptr;
  float* y = nullptr;
  int64_t rows = 0;
  int64_t width = 0;
};
KVASS_DECLARE_DEVICE_KERNEL(DeviceBiasParams, bias)

// y = cap · tanh(x / cap), [n]; y may be x.
struct DeviceSoftcapParams {
  const float* x = nullptr;
  float* y = nullptr;
  int64_t n = 0;
  float cap = 0.0f;
};
KVASS_DECLARE_DEVICE_KERNEL(DeviceSoftcapParams, softcap)

// y [rows][width] = rows `ids` of x; y does not overlap x.
struct DeviceSelectParams {
  const float* x = nullptr;
  const int32_t* ids = nullptr;  // [rows]
  float* y = nullptr;
  int64_t rows = 0;
  int64_t width = 0;
};
KVASS_DECLARE_DEVICE_KERNEL(DeviceSelectParams, select_rows)

}  // namespace kvass
