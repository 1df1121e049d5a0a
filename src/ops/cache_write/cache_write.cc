#include "ops/cache_write/cache_write.h"

#include <algorithm>
#include <cstring>

#include "base/float16.h"
#include "kernels/attention/attention.h"
#include "kernels/quantise_q8/quantise_q8.h"
#include "kernels/rotary/rotate_row.h"

namespace kvass {
namespace {

constexpr int64_t kTaskRows = 64;

struct F32 {
  using Stored = float;
  static float round(float x) { return x; }
};
struct F16 {
  using Stored = uint16_t;
  static uint16_t round(float x) { return float_to_f16_saturating(x); }
};
struct Bf16 {
  using Stored = uint16_t;
  static uint16_t round(float x) { return float_to_bf16(x); }
};

// k, v: one row, [kv_heads * head_dim]. The key is a column of its transposed tile, the value a row.
template <class Storage>
void store_row(const TileShape& shape, const KeySegment& segment, int64_t position, const float* k, const float* v) {
  using Stored = typename Storage::Stored;
  const int64_t tile = segment.tile_of(position);
  const int64_t lane = KeySegment::lane_of(position - segment.origin);
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    uint8_t* bytes = segment.data + static_cast<size_t>(head * segment.tiles + tile) * shape.tile_bytes();
    Stored* keys = reinterpret_cast<Stored*>(bytes) + lane;
    Stored* values = reinterpret_cast<Stored*>(bytes + shape.key_bytes()) + lane * shape.head_dim;
    const float* key = k + head * shape.head_dim;
    const float* value = v + head * shape.head_dim;
    for (int64_t d = 0; d < shape.head_dim; ++d) keys[d * kTileKeys] = Storage::round(key[d]);
    for (int64_t d = 0; d < shape.head_dim; ++d) values[d] = Storage::round(value[d]);
  }
}

void store_row_q8(const TileShape& shape, const KeySegment& segment, int64_t position, const float* k, const float* v,
                  QuantiseQ8Kernel quantise) {
  const int64_t tile = segment.tile_of(position);
  const int64_t lane = KeySegment::lane_of(position - segment.origin);
  int8_t row[kAttentionMaxHeadDim];
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    uint8_t* keys = segment.data + static_cast<size_t>(head * segment.tiles + tile) * shape.tile_bytes();
    uint8_t* values = keys + shape.key_bytes();
    const float key_scale = quantise(k + head * shape.head_dim, shape.head_dim, row);
    for (int64_t d = 0; d < shape.head_dim; d += 4) std::memcpy(keys + d * kTileKeys + lane * 4, row + d, 4);
    const float value_scale =
        quantise(v + head * shape.head_dim, shape.head_dim, reinterpret_cast<int8_t*>(values) + lane * shape.head_dim);
    std::memcpy(keys + shape.scales_offset() + lane * 4, &key_scale, sizeof(float));
    std::memcpy(values + shape.scales_offset() + lane * 4, &value_scale, sizeof(float));
  }
}

using StoreRow = void (*)(const TileShape&, const KeySegment&, int64_t, const float*, const float*);

StoreRow store_row_for(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return store_row<F32>;
    case DType::f16:
      return store_row<F16>;
    case DType::bf16:
      return store_row<Bf16>;
    case DType::q8:
      break;
  }
  return nullptr;
}

}  // namespace

void cache_write(const CacheWriteArgs& args, ThreadPool& pool, Isa isa) {
  const int64_t width = args.shape.kv_heads * args.shape.head_dim;
  const int64_t half = args.shape.head_dim / 2;
  const StoreRow store = store_row_for(args.shape.dtype);
  const QuantiseQ8Kernel quantise = quantise_q8_for(isa);
  const auto rotate = rotation_for(isa, args.interleaved);
  for (const CacheWriteRun& run : args.runs) {
    pool.run((run.rows + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
      for (int64_t i = task * kTaskRows; i < std::min(run.rows, (task + 1) * kTaskRows); ++i) {
        const int64_t row = run.first_row + i;
        const int64_t position = run.start + i;
        float* key = args.k + row * width;
        if (args.cos) {
          rotate(key, args.cos + row * half, args.sin + row * half, key, args.shape.kv_heads, args.shape.head_dim);
        }
        const KeySegment& segment = position < run.ring.origin ? run.sink : run.ring;
        if (store) {
          store(args.shape, segment, position, key, args.v + row * width);
        } else {
          store_row_q8(args.shape, segment, position, key, args.v + row * width, quantise);
        }
      }
    });
  }
}

}  // namespace kvass
