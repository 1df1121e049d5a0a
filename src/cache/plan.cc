#include "cache/plan.h"

#include <algorithm>
#include <string>

namespace kvass {
namespace {

Result<Layout> layout_for(const CacheShape& layer, const CacheOptions& options) {
  if (layer.window == 0) {
    if (!options.sinks) return Layout::full(options.context);
    return Layout::sink_ring(options.sink_tokens, options.sink_window,
                             ring_slots_for(options.sink_window, options.chunk));
  }
  const int64_t ring = ring_slots_for(layer.window, options.chunk);
  // A stream that ends before the ring would wrap needs no ring.
  if (!options.sinks && options.context <= ring) return Layout::full(options.context, layer.window);
  return Layout::ring(layer.window, ring);
}

// Bounds sums and products of a few sizes; the layouts check the sizes themselves.
constexpr int64_t kMaxTokens = int64_t{1} << 40;
constexpr size_t kMaxLayerBytes = size_t{1}
                                  << 46;  // beyond any machine: a plan of this size is a mistake in the options

}  // namespace

Result<CachePlan> plan_caches(const std::vector<CacheShape>& layers, const CacheOptions& options) {
  if (options.context < 1) return bad_input("--context", "at least 1 token", std::to_string(options.context));
  if (options.chunk < 1) return bad_input("--chunk", "at least 1 token", std::to_string(options.chunk));
  for (const int64_t tokens : {options.context, options.chunk, options.sink_tokens, options.sink_window}) {
    if (tokens > kMaxTokens) return bad_input("cache options", "at most 2^40 tokens", std::to_string(tokens));
  }
  if (options.sinks && options.context < options.sink_tokens + options.sink_window) {
    return bad_input("--context",
                     "at least " + std::to_string(options.sink_tokens + options.sink_window) +
                         " tokens (the S + W of --attention-sink S,W)",
                     std::to_string(options.context));
  }
  CachePlan plan;
  plan.chunk = options.chunk;
  for (const CacheShape& layer : layers) {
    LayerCache cache;
    KVASS_ASSIGN_OR_RETURN(cache.layout, layout_for(layer, options));
    cache.shape = {options.dtype, layer.kv_heads, layer.head_dim};
    cache.sink_tiles = (cache.layout.sink() + kTileKeys - 1) / kTileKeys;
    cache.ring_tiles = (cache.layout.ring_slots() + kTileKeys - 1) / kTileKeys;
    const size_t most_tiles = kMaxLayerBytes / (cache.shape.segment_bytes(1) + 1);
    if (static_cast<size_t>(cache.sink_tiles + cache.ring_tiles) > most_tiles) {
      return bad_input("--context", "a cache below 64 TiB a layer",
                       std::to_string(cache.slots()) + " slots of " + std::to_string(layer.kv_heads) + " x " +
                           std::to_string(layer.head_dim));
    }
    cache.sink_offset = plan.bytes;
    cache.ring_offset = plan.bytes + cache.shape.segment_bytes(cache.sink_tiles);
    plan.bytes += cache.bytes();
    plan.layers.push_back(cache);
  }
  return plan;
}

}  // namespace kvass
