// The plan of one sequence's caches: the layout of each layer, the positions of its keys, and the place of its bytes in
// the sequence's one block. Integers only; nothing is allocated here.
//
// Also the export rule: how exports with static attention and per-layer caches count a layer's tokens (ExecuTorch,
// static attention with sliding_window and sliding_window_pattern). Full layers have max_context_len − input_len,
// sliding layers min(sliding_window, that). It serves to compare plans: such a program keeps a step's own tokens
// outside the cache. kvass writes them into the cache, so it maps the context, or the window plus a chunk, in whole
// tiles.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kvass/export.h"
#include "kvass/layout.h"
#include "kvass/sink_positions.h"
#include "kvass/status.h"
#include "kvass/tensor.h"
#include "kvass/tiles.h"

namespace kvass {

// The cache that a layer of the model needs.
struct CacheShape {
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t window = 0;  // tokens a query sees; 0: all (a full layer)
};

// Layers by sliding_window and sliding_window_pattern: layer i is full exactly if (i + 1) mod pattern = 0. With a
// window but no pattern every layer is sliding; with neither every layer is full.
struct LayerPattern {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  std::optional<int64_t> sliding_window;          // tokens, at least 1
  std::optional<int64_t> sliding_window_pattern;  // at least 2; only together with a window
};
KVASS_API Result<std::vector<CacheShape>> layered_shapes(const LayerPattern& pattern);

// The options of a stream's caches. Lengths in tokens.
struct CacheOptions {
  int64_t context = 4096;   // capacity of full layers; with sinks: at least sink_tokens + sink_window, which are used
  int64_t chunk = 256;      // largest number of tokens in a step
  bool sinks = false;       // the layers of sink_layers become [sink | ring], and the stream never ends
  int64_t sink_tokens = 4;  // with sinks: positions kept for ever; 0 is a plain ring
  int64_t sink_window = 0;  // with sinks: window of those layers
  SinkPositions sink_positions = SinkPositions::in_cache;
  int64_t checkpoints = 0;    // number of checkpoints that can be kept (Stream::checkpoint)
  int64_t rotary_offset = 0;  // RotaryPositions::offset of the layers of sink_layers, with sinks or without
  DType dtype = DType::f16;   // storage of keys and values

  friend bool operator==(const CacheOptions&, const CacheOptions&) = default;
};

// One layer's cache inside the block: [sink tiles | ring tiles], each [kv_heads][tiles] tiles (tiles.h).
struct LayerCache {
  Layout layout;
  RotaryPositions rotary;
  TileShape shape;
  int64_t sink_tiles = 0;
  int64_t ring_tiles = 0;
  size_t sink_offset = 0;  // bytes from the start of the block
  size_t ring_offset = 0;
  int64_t checkpoint_tiles = 0;  // tiles that a checkpoint keeps of each head: those of the latest window − 1 keys
  size_t checkpoint_offset = 0;  // bytes from the start of a checkpoint

  size_t bytes() const { return shape.segment_bytes(sink_tiles) + shape.segment_bytes(ring_tiles); }
  int64_t slots() const { return (sink_tiles + ring_tiles) * kTileKeys; }  // capacity, in whole tiles
  KeySegment sink_segment(uint8_t* block) const { return {block + sink_offset, sink_tiles, 0}; }
  KeySegment ring_segment(uint8_t* block) const { return {block + ring_offset, ring_tiles, layout.sink()}; }
};

struct CachePlan {
  std::vector<LayerCache> layers;
  size_t bytes = 0;             // size of the block: [layers | checkpoints]
  size_t checkpoint_bytes = 0;  // size of one checkpoint
  size_t checkpoint_base = 0;   // bytes from the start of the block
  int64_t chunk = 0;            // largest number of tokens in a step (CacheOptions::chunk)

  bool endless() const {  // no layer's cache ever becomes full
    return std::all_of(layers.begin(), layers.end(), [](const LayerCache& layer) { return layer.layout.endless(); });
  }
};

// [layers] true: sinks apply to the layer. These are the full layers. If the model has none, all layers: each then
// keeps its own window if that is shorter.
KVASS_API std::vector<bool> sink_layers(const std::vector<CacheShape>& layers);

KVASS_API Result<CachePlan> plan_caches(const std::vector<CacheShape>& layers, const CacheOptions& options);

// The number of tokens that each layer keeps visible: the export rule with max_context_len = context and input_len =
// chunk. With sinks: sink + window, and the window of each other layer. A length below 1 is an error.
KVASS_API Result<std::vector<int64_t>> cache_lens(const std::vector<CacheShape>& layers, const CacheOptions& options);

}  // namespace kvass
