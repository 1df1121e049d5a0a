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

// Where the row of one head lies: its tile, and the lane in it.
struct Place {
  uint8_t* tile;
  int64_t lane;
};

// key, value: [head_dim] of one row. The key is a column of its transposed tile, the value a row.
template <class Storage>
void store_head(const TileShape& shape, Place at, const float* key, const float* value, QuantiseQ8Kernel) {
  using Stored = typename Storage::Stored;
  Stored* keys = reinterpret_cast<Stored*>(at.tile) + at.lane;
  Stored* values = reinterpret_cast<Stored*>(at.tile + shape.key_bytes()) + at.lane * shape.head_dim;
  for (int64_t d = 0; d < shape.head_dim; ++d) keys[d * kTileKeys] = Storage::round(key[d]);
  for (int64_t d = 0; d < shape.head_dim; ++d) values[d] = Storage::round(value[d]);
}

void store_head_q8(const TileShape& shape, Place at, const float* key, const float* value, QuantiseQ8Kernel quantise) {
  int8_t row[kAttentionMaxHeadDim];
  uint8_t* keys = at.tile;
  uint8_t* values = keys + shape.key_bytes();
  const float key_scale = quantise(key, shape.head_dim, row);
  for (int64_t d = 0; d < shape.head_dim; d += 4) std::memcpy(keys + d * kTileKeys + at.lane * 4, row + d, 4);
  const float value_scale =
      quantise(value, shape.head_dim, reinterpret_cast<int8_t*>(values) + at.lane * shape.head_dim);
  std::memcpy(keys + shape.scales_offset() + at.lane * 4, &key_scale, sizeof(float));
  std::memcpy(values + shape.scales_offset() + at.lane * 4, &value_scale, sizeof(float));
}

using StoreHead = void (*)(const TileShape&, Place, const float*, const float*, QuantiseQ8Kernel);

StoreHead store_head_for(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return store_head<F32>;
    case DType::f16:
      return store_head<F16>;
    case DType::bf16:
      return store_head<Bf16>;
    case DType::q8:
      return store_head_q8;
  }
  return nullptr;
}

}  // namespace

void cache_write(const CacheWriteArgs& args, ThreadPool& pool, Isa isa) {
  const TileShape& shape = args.shape;
  const int64_t width = shape.kv_heads * shape.head_dim;
  const int64_t half = shape.head_dim / 2;
  const StoreHead store = store_head_for(shape.dtype);
  const QuantiseQ8Kernel quantise = quantise_q8_for(isa);
  const auto rotate = rotation_for(isa, args.interleaved);
  const auto write_row = [&](const CacheWriteRun& run, int64_t row, int64_t position) {
    const KeySegment& segment = position < run.body.origin ? run.sink : run.body;
    const int64_t tile = segment.tile_of(position);
    const int64_t lane = KeySegment::lane_of(position - segment.origin);
    float rotated[kAttentionMaxHeadDim];
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      const float* key = args.k + row * width + head * shape.head_dim;
      if (args.cos) {
        rotate(key, args.cos + row * half, args.sin + row * half, rotated, 1, shape.head_dim);
        key = rotated;
      }
      store(shape, {segment.data + static_cast<size_t>(head * segment.tiles + tile) * shape.tile_bytes(), lane}, key,
            args.v + row * width + head * shape.head_dim, quantise);
    }
  };
  for (const CacheWriteRun& run : args.runs) {
    pool.run((run.rows + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
      for (int64_t i = task * kTaskRows; i < std::min(run.rows, (task + 1) * kTaskRows); ++i) {
        write_row(run, run.first_row + i, run.start + i);
      }
    });
  }
}

}  // namespace kvass
