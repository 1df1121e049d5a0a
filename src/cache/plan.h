// The caches of one sequence, planned: which layout each layer has and where its bytes lie in the sequence's one block.
// Integers only; nothing is allocated here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/layout.h"
#include "kvass/status.h"

namespace kvass {

// What a layer of the model asks for.
struct CacheShape {
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t window = 0;  // tokens a query sees; 0: all (a full layer)
};

// What a stream asks for. Lengths in tokens.
struct CacheOptions {
  int64_t context = 4096;    // capacity of full layers; with sinks only a lower bound that is checked
  int64_t chunk = 256;       // the longest step
  bool sinks = false;        // full layers become [sink | ring] and the stream does not end
  int64_t sink_tokens = 4;   // with sinks: positions kept for ever; 0 is a plain ring
  int64_t sink_window = 0;   // with sinks: window of the full layers
  DType dtype = DType::f16;  // storage of keys and values

  friend bool operator==(const CacheOptions&, const CacheOptions&) = default;
};

// One layer's cache inside the block: [sink tiles | ring tiles], each [kv_heads][tiles] tiles (tiles.h).
struct LayerCache {
  Layout layout;
  TileShape shape;
  int64_t sink_tiles = 0;
  int64_t ring_tiles = 0;
  size_t sink_offset = 0;  // bytes from the start of the block
  size_t ring_offset = 0;

  size_t bytes() const { return shape.segment_bytes(sink_tiles) + shape.segment_bytes(ring_tiles); }
  int64_t slots() const { return (sink_tiles + ring_tiles) * kTileKeys; }  // what is stored, in whole tiles
  KeySegment sink_segment(uint8_t* block) const { return {block + sink_offset, sink_tiles, 0}; }
  KeySegment ring_segment(uint8_t* block) const { return {block + ring_offset, ring_tiles, layout.sink()}; }
};

struct CachePlan {
  std::vector<LayerCache> layers;
  size_t bytes = 0;   // of the block
  int64_t chunk = 0;  // the longest step, as asked for
};

Result<CachePlan> plan_caches(const std::vector<CacheShape>& layers, const CacheOptions& options);

}  // namespace kvass
