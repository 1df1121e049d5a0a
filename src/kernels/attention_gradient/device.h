// attention_gradient.h on a device, with the same bits: statistics and dq of every row, then dk and dv of every key,
// scores computed anew for both. All pointers are to the device's memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/device.h"

namespace kvass {

struct DeviceGradientParams {
  DeviceAttentionParams p;  // rows of keys without a cache; `out`, q_sink and what concerns division are not used
  DeviceRows<const void> dout;
  DeviceRows<void> dq;  // f32, as are dk and dv, whose rows are keys and whose heads are KV heads
  DeviceRows<void> dk;
  DeviceRows<void> dv;
  int64_t tiles = 0;         // most of a run: of its sink keys, then of the others
  float* stats = nullptr;    // [runs][heads][queries][3]
  uint8_t* desks = nullptr;  // [desk_count] of device_gradient_desk_bytes, 64-byte aligned
  int64_t desk_count = 0;
};

// Rows that a block of device threads takes at a time.
inline constexpr int64_t kDeviceGradientRows = 8;
// What it writes down of them.
size_t device_gradient_desk_bytes(int64_t tiles);
// So many desks that every processor is busy, within `most_bytes`; at least one.
int64_t device_gradient_desks(int64_t tiles, int processors, size_t most_bytes);

KVASS_DECLARE_DEVICE_KERNEL(DeviceGradientParams, attention_gradient)

}  // namespace kvass
