// The memory layout of cached keys and values, and which of them a row sees. Sizes, offsets and integers only. The
// bytes belong to the sequence's cache memory.
//
// A segment (the sink part or the ring part of one layer's cache) is whole tiles of 64 keys for each KV head. Tile t of
// head h of a segment with T tiles begins at data + (h * T + t) * tile_bytes:
//     K [head_dim][64]   transposed: lanes are keys
//     V [64][head_dim]   lanes are channels
// both in the cache's storage type. With q8 a key or value of a head is int8 times one float32 scale. Four channels of
// a key are adjacent, as integer dot instructions need them:
//     K [head_dim / 4][64][4] int8, then its scales float32 [64]
//     V [64][head_dim] int8, then its scales float32 [64]
// The key at position p >= origin is in tile ((p - origin) / 64) mod T, lane
// (p - origin) mod 64.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvass/tensor.h"

namespace kvass {

inline constexpr int64_t kTileKeys = 64;   // keys in a tile
inline constexpr int64_t kSpanKeys = 512;  // keys in a span: the unit that threads share in one row

// Bytes of one key (or value) of one head.
constexpr size_t head_row_bytes(DType dtype, int64_t head_dim) {
  return static_cast<size_t>(head_dim) * dtype_bytes(dtype) + (dtype == DType::q8 ? sizeof(float) : 0);
}

struct TileShape {
  DType dtype = DType::f16;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // a multiple of 16

  size_t key_bytes() const { return kTileKeys * head_row_bytes(dtype, head_dim); }    // = value bytes
  size_t scales_offset() const { return static_cast<size_t>(head_dim * kTileKeys); }  // q8: within K and within V
  size_t tile_bytes() const { return 2 * key_bytes(); }
  size_t segment_bytes(int64_t tiles) const { return static_cast<size_t>(kv_heads * tiles) * tile_bytes(); }
};

// One segment of one layer of one sequence.
struct KeySegment {
  uint8_t* data = nullptr;  // [kv_heads][tiles] tiles
  int64_t tiles = 0;
  int64_t origin = 0;  // position of lane 0 of the first tile: 0 for the sink part, `sinks` for the rest

  int64_t tile_of(int64_t position) const { return (position - origin) / kTileKeys % tiles; }
  static constexpr int64_t lane_of(int64_t offset) { return offset % kTileKeys; }  // offset = position - origin
};

// The keys that one query row sees, as positions: [0, sink_end) in the sink segment and [begin, end) in the other.
struct RowVisibility {
  int64_t sink_end = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

}  // namespace kvass
