// y = x Wᵀ on a device: the kernels of linear.h with the same bits, on panels and activation blocks in its memory. They
// trust their arguments; the operator is ops/linear/device.h.
#pragma once

#include <cstdint>

#include "device/dispatch.h"
#include "kernels/linear/linear.h"

namespace kvass {

// Weights of one type that share their input.
struct DeviceLinearParams {
  static constexpr int kMostTargets = 8;
  struct Target {
    const uint8_t* panels = nullptr;  // [panel_count(n)][panel_bytes(type, k)]
    int64_t n = 0;
    float* y = nullptr;  // [rows][n], rows y_stride floats apart
    int64_t y_stride = 0;
  };

  WeightType type = WeightType::F32;
  int targets_count = 0;
  Target targets[kMostTargets];
  int64_t k = 0;
  int64_t rows = 0;
  const void* x = nullptr;  // row 0: float [rows][k], or the activation blocks [rows][k / 32]
  int64_t x_stride = 0;     // between rows: floats, or activation blocks
};

KVASS_DECLARE_DEVICE_KERNEL(QuantiseParams, quantise_a8)
KVASS_DECLARE_DEVICE_KERNEL(QuantiseParams, quantise_a16)
KVASS_DECLARE_DEVICE_KERNEL(DeviceLinearParams, linear_f32)  // every type
KVASS_DECLARE_DEVICE_KERNEL(DeviceLinearParams, linear_a8)   // quantised types
KVASS_DECLARE_DEVICE_KERNEL(DeviceLinearParams, linear_a16)  // quantised types
namespace emulated {
// What devices without matrix units for bytes run for many rows; for its test.
Status linear_a8_without_matrices(const DeviceLinearParams& params, DeviceStream stream);
Status linear_a16_without_matrices(const DeviceLinearParams& params, DeviceStream stream);
}  // namespace emulated

// Rows of a weight, by number: y[r] = row ids[r] of the weight times `factor` (one rounding more).
struct DeviceEmbedParams {
  WeightType type = WeightType::F32;
  const uint8_t* panels = nullptr;
  int64_t k = 0;
  const int32_t* ids = nullptr;  // [rows], in the device's memory
  int64_t rows = 0;
  float factor = 1.0f;
  float* y = nullptr;  // [rows][k]
};
KVASS_DECLARE_DEVICE_KERNEL(DeviceEmbedParams, embed)

}  // namespace kvass
