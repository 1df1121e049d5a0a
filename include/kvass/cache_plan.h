// The caches of one sequence, planned: which layout each layer has, which positions its keys stand at, and where its
// bytes lie in the sequence's one block. Integers only; nothing is allocated here.
//
// Also the export rule, by which exports with static attention and per-layer caches count a layer's tokens (ExecuTorch,
// static attention with sliding_window and sliding_window_pattern): full layers max_context_len − input_len, sliding
// ones min(sliding_window, that). It is for comparing plans: such a program keeps a step's own tokens beside the cache,
// kvass writes them into it, so that what is mapped is the context, or the window and a chunk, in whole tiles.
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

// What a layer of the model asks for.
struct CacheShape {
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t window = 0;  // tokens a query sees; 0: all (a full layer)
};

// Layers by sliding_window and sliding_window_pattern: layer i is full exactly when (i + 1) mod pattern = 0; a window
// alone makes every layer sliding, neither leaves every layer full.
struct LayerPattern {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  std::optional<int64_t> sliding_window;          // tokens, at least 1
  std::optional<int64_t> sliding_window_pattern;  // at least 2; only beside a window
};
KVASS_API Result<std::vector<CacheShape>> layered_shapes(const LayerPattern& pattern);

// What a stream asks for. Lengths in tokens.
struct CacheOptions {
  int64_t context = 4096;   // capacity of full layers; with sinks only a lower bound that is checked
  int64_t chunk = 256;      // the longest step
  bool sinks = false;       // layers that take sinks become [sink | ring] and the stream does not end
  int64_t sink_tokens = 4;  // with sinks: positions kept for ever; 0 is a plain ring
  int64_t sink_window = 0;  // with sinks: window of those layers
  SinkPositions sink_positions = SinkPositions::in_cache;
  int64_t checkpoints = 0;    // places for Sequence::checkpoint
  int64_t rotary_offset = 0;  // in those layers, positions behind the sinks stand so much further on (for measurements)
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
  int64_t checkpoint_tiles = 0;  // what a checkpoint keeps of each head: the tiles of the latest window − 1 keys
  size_t checkpoint_offset = 0;  // bytes from the start of a checkpoint

  size_t bytes() const { return shape.segment_bytes(sink_tiles) + shape.segment_bytes(ring_tiles); }
  int64_t slots() const { return (sink_tiles + ring_tiles) * kTileKeys; }  // what is stored, in whole tiles
  KeySegment sink_segment(uint8_t* block) const { return {block + sink_offset, sink_tiles, 0}; }
  KeySegment ring_segment(uint8_t* block) const { return {block + ring_offset, ring_tiles, layout.sink()}; }
};

struct CachePlan {
  std::vector<LayerCache> layers;
  size_t bytes = 0;             // of the block: [layers | checkpoints]
  size_t checkpoint_bytes = 0;  // of one checkpoint
  size_t checkpoint_base = 0;   // bytes from the start of the block
  int64_t chunk = 0;            // the longest step, as asked for

  bool endless() const {  // no layer ends the stream
    return std::all_of(layers.begin(), layers.end(), [](const LayerCache& layer) { return layer.layout.endless(); });
  }
};

// Which layers sinks apply to: the full ones; all of them where the model has none (each then keeps its own window
// where that is shorter).
KVASS_API std::vector<bool> sink_layers(const std::vector<CacheShape>& layers);

KVASS_API Result<CachePlan> plan_caches(const std::vector<CacheShape>& layers, const CacheOptions& options);

// Tokens that each layer keeps in sight: the export rule with max_context_len = context and input_len = chunk; with
// sinks, sink + window and the windows of the other layers. A length below 1 is an error.
KVASS_API Result<std::vector<int64_t>> cache_lens(const std::vector<CacheShape>& layers, const CacheOptions& options);

}  // namespace kvass
