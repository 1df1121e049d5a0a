// attention_gradient.h on a device, with the same bits: statistics and dq of every row, then dk and dv of every key.
// Both compute the scores again. All pointers are to device memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/device.h"

namespace kvass {

struct DeviceGradientParams {
  DeviceAttentionParams p;  // keys as rows without a cache; `out`, q_sink and the division are not used
  DeviceRows<const void> dout;
  DeviceRows<void> dq;  // f32
  DeviceRows<void> dk;  // f32, as dv: rows are keys, heads are KV heads
  DeviceRows<void> dv;
  int64_t tiles = 0;              // largest number of tiles of a run: tiles of sink keys, then of other keys
  float* stats = nullptr;         // [runs][heads][queries][3]
  uint8_t* workspaces = nullptr;  // [workspace_count] of device_gradient_workspace_bytes, 64-byte aligned
  int64_t workspace_count = 0;
};

// Number of rows that a block of device threads computes together.
inline constexpr int64_t kDeviceGradientRows = 8;
// Bytes of their scores, dp and masks.
size_t device_gradient_workspace_bytes(int64_t tiles);
// The number of workspaces: enough to keep every processor busy, within `most_bytes`, at least one.
int64_t device_gradient_workspaces(int64_t tiles, int processors, size_t most_bytes);

KVASS_DECLARE_DEVICE_KERNEL(DeviceGradientParams, attention_gradient)

}  // namespace kvass
