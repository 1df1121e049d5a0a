// A block of threads writes the key and the value of one row and one KV head.
#include "device/code.h"
#include "device/lane.h"
#include "ops/cache_write/device.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kThreads = 128;

struct StoreF32 {
  using T = float;
  KVASS_METHOD static float round(float x) { return x; }
};
struct StoreF16 {
  using T = uint16_t;
  KVASS_METHOD static uint16_t round(float x) { return float_to_f16_saturating(x); }
};
struct StoreBf16 {
  using T = uint16_t;
  KVASS_METHOD static uint16_t round(float x) { return float_to_bf16(x); }
};

// Where a row of the cache is.
struct Slot {
  uint8_t* keys;  // of its tile and head
  uint8_t* values;
  int64_t lane;
};

KVASS_DEVICE_FN Slot slot_of(const DeviceCacheWriteParams& p, int64_t row, int64_t head, int64_t key_bytes) {
  const CacheWriteRun run = p.runs[p.run_of[row]];
  const int64_t position = run.start + row - run.first_row;
  const KeySegment segment = position < run.body.origin ? run.sink : run.body;
  const int64_t offset = position - segment.origin;
  const int64_t tile = offset / kTileKeys % segment.tiles;
  uint8_t* keys = segment.data + (head * segment.tiles + tile) * 2 * key_bytes;
  return {keys, keys + key_bytes, offset % kTileKeys};
}

// The head's key into shared memory, rotated.
KVASS_DEVICE_FN void load_key(const DeviceCacheWriteParams& p, int64_t row, const float* from, float* key) {
  const int half = static_cast<int>(p.head_dim / 2);
  if (!p.cos) {
    for (int d = thread_index(); d < p.head_dim; d += kThreads) key[d] = from[d];
    return;
  }
  for (int i = thread_index(); i < half; i += kThreads) {
    const int a = p.interleaved ? 2 * i : i, b = p.interleaved ? 2 * i + 1 : i + half;
    const float cos = p.cos[row * half + i], sin = p.sin[row * half + i];
    const float x1 = from[a], x2 = from[b];
    key[a] = fma_rn(x1, cos, -mul_rn(x2, sin));
    key[b] = fma_rn(x2, cos, mul_rn(x1, sin));
  }
}

template <class Storage>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) store_rows(const DeviceCacheWriteParams p) {
  using T = typename Storage::T;
  float* key = reinterpret_cast<float*>(shared_memory());  // [head_dim]
  const int64_t row = block_x(), head = block_y();
  const int64_t first = (row * p.kv_heads + head) * p.head_dim;
  const Slot slot = slot_of(p, row, head, kTileKeys * p.head_dim * static_cast<int64_t>(sizeof(T)));
  load_key(p, row, p.k + first, key);
  barrier();
  T* keys = reinterpret_cast<T*>(slot.keys) + slot.lane;
  T* values = reinterpret_cast<T*>(slot.values) + slot.lane * p.head_dim;
  for (int d = thread_index(); d < p.head_dim; d += kThreads) {
    keys[d * kTileKeys] = Storage::round(key[d]);
    values[d] = Storage::round(p.v[first + d]);
  }
}

// kernels/quantise_q8: what a row has in common each thread finds for itself.
struct RowScale {
  bool some;
  float scale;
  float inverse;

  KVASS_METHOD RowScale(const float* x, int n) {
    float amax = 0.0f;
    bool finite = true;
    for (int i = 0; i < n; ++i) {
      const float magnitude = D::abs(x[i]);
      finite &= bits_of_float(magnitude) < 0x7f800000u;
      amax = magnitude > amax ? magnitude : amax;
    }
    some = finite && amax >= 0x1p-100f;
    inverse = some ? div_rn(127.0f, amax) : 0.0f;
    scale = some ? div_rn(amax, 127.0f) : finite ? 0.0f : float_from_bits(0x7fc00000u);
  }
  KVASS_METHOD uint8_t quant(float x) const {
    return some ? static_cast<uint8_t>(D::to_int(mul_rn(x, inverse))) : uint8_t{0};
  }
};

KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) store_rows_q8(const DeviceCacheWriteParams p) {
  float* key = reinterpret_cast<float*>(shared_memory());  // [head_dim]
  float* value = key + p.head_dim;                         // [head_dim]
  const int64_t row = block_x(), head = block_y();
  const int64_t first = (row * p.kv_heads + head) * p.head_dim;
  const int64_t quants_bytes = kTileKeys * p.head_dim;  // of 64 keys; then their scales
  const Slot slot = slot_of(p, row, head, quants_bytes + kTileKeys * static_cast<int64_t>(sizeof(float)));
  load_key(p, row, p.k + first, key);
  for (int d = thread_index(); d < p.head_dim; d += kThreads) value[d] = p.v[first + d];
  barrier();
  const int head_dim = static_cast<int>(p.head_dim);
  const RowScale key_scale(key, head_dim), value_scale(value, head_dim);
  for (int d = thread_index(); d < head_dim; d += kThreads) {
    slot.keys[d / 4 * 4 * kTileKeys + slot.lane * 4 + d % 4] = key_scale.quant(key[d]);
    slot.values[slot.lane * head_dim + d] = value_scale.quant(value[d]);
  }
  if (thread_index() == 0) {
    reinterpret_cast<float*>(slot.keys + quants_bytes)[slot.lane] = key_scale.scale;
    reinterpret_cast<float*>(slot.values + quants_bytes)[slot.lane] = value_scale.scale;
  }
}

}  // namespace

Status cache_write_rows(const DeviceCacheWriteParams& p, DeviceStream stream) {
  const Grid grid{p.rows, p.kv_heads, 1};
  const size_t shared = 2 * static_cast<size_t>(p.head_dim) * sizeof(float);
  switch (p.dtype) {
    case DType::f32:
      return launch(&store_rows<StoreF32>, "cache_write", grid, kThreads, shared, stream, p);
    case DType::f16:
      return launch(&store_rows<StoreF16>, "cache_write", grid, kThreads, shared, stream, p);
    case DType::bf16:
      return launch(&store_rows<StoreBf16>, "cache_write", grid, kThreads, shared, stream, p);
    case DType::q8:
      return launch(&store_rows_q8, "cache_write", grid, kThreads, shared, stream, p);
  }
  return Status::error(StatusCode::internal, "cache_write: keys of no known type");
}

}  // namespace kvass::KVASS_DEVICE
