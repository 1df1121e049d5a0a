// cache_write.h on a device: a chunk's keys and values to the slots of their positions, with the same bits. Keys are
// rotated on the way; k itself is left as it is.
#pragma once

#include <cstdint>

#include "device/dispatch.h"
#include "ops/cache_write/cache_write.h"

namespace kvass {

// All pointers are to the device's memory.
struct DeviceCacheWriteParams {
  const float* k = nullptr;    // [rows][kv_heads * head_dim]
  const float* v = nullptr;    // [rows][kv_heads * head_dim]
  const float* cos = nullptr;  // [rows][head_dim / 2] of the rows' positions; null: k is taken as it is
  const float* sin = nullptr;  // [rows][head_dim / 2]
  bool interleaved = false;    // rotary pairs are neighbours, not halves
  DType dtype = DType::f16;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // at most 512
  int64_t rows = 0;      // of all runs
  const CacheWriteRun* runs = nullptr;
  const int32_t* run_of = nullptr;  // [rows] -> runs
};
KVASS_DECLARE_DEVICE_KERNEL(DeviceCacheWriteParams, cache_write_rows)

}  // namespace kvass
