#include <algorithm>
#include <string>
#include <utility>

#include "base/check_enum.h"
#include "kvass/cache_plan.h"

namespace kvass {
namespace {

// Of a layer that takes sinks: a window that it was trained with stays its longest.
int64_t sink_window(const CacheShape& layer, const CacheOptions& options) {
  return layer.window == 0 ? options.sink_window : std::min(options.sink_window, layer.window);
}

Result<Layout> layout_for(const CacheShape& layer, bool takes_sinks, const CacheOptions& options) {
  if (options.sinks && takes_sinks) {
    const int64_t window = sink_window(layer, options);
    return Layout::sink_ring(options.sink_tokens, window, ring_slots_for(window, options.chunk));
  }
  if (layer.window == 0) return Layout::full(options.context);
  const int64_t ring = ring_slots_for(layer.window, options.chunk);
  // A stream that ends before the ring would wrap needs no ring.
  if (!options.sinks && options.context <= ring) return Layout::full(options.context, layer.window);
  return Layout::ring(layer.window, ring);
}

RotaryPositions rotary_for(const CacheShape& layer, bool takes_sinks, const CacheOptions& options) {
  if (!takes_sinks) return {};
  if (!options.sinks) return {SinkPositions::original, 0, 0, options.rotary_offset};
  return {options.sink_positions, options.sink_tokens, sink_window(layer, options), options.rotary_offset};
}

// Bounds sums and products of a few sizes; the layouts check the sizes themselves.
constexpr int64_t kMaxTokens = int64_t{1} << 40;
constexpr int64_t kMaxHeads = int64_t{1} << 16;
constexpr int64_t kMaxHeadDim = int64_t{1} << 20;
// Beyond any machine: a plan of this size is a mistake in the options.
constexpr size_t kMaxLayerBytes = size_t{1} << 46;

Status check_count(std::string_view what, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return bad_input(what, "between " + std::to_string(least) + " and " + std::to_string(most), std::to_string(value));
}

Status check_options(const CacheOptions& options) {
  KVASS_RETURN_IF_ERROR(check_enum("CacheOptions.sink_positions", options.sink_positions, sink_positions_name));
  KVASS_RETURN_IF_ERROR(check_enum("CacheOptions.dtype", options.dtype, dtype_name));
  if (options.context < 1)
    return bad_input("CacheOptions.context", "at least 1 token", std::to_string(options.context));
  if (options.chunk < 1) return bad_input("CacheOptions.chunk", "at least 1 token", std::to_string(options.chunk));
  if (options.rotary_offset < 0 || options.rotary_offset > kMaxTokens) {
    return bad_input("CacheOptions.rotary_offset", "0 to 2^40 tokens", std::to_string(options.rotary_offset));
  }
  KVASS_RETURN_IF_ERROR(check_count("CacheOptions.checkpoints", options.checkpoints, 0, 1 << 16));
  for (const auto& [field, tokens] :
       {std::pair("CacheOptions.context", options.context), {"CacheOptions.chunk", options.chunk}}) {
    if (tokens > kMaxTokens) return bad_input(field, "at most 2^40 tokens", std::to_string(tokens));
  }
  if (!options.sinks) return {};
  KVASS_RETURN_IF_ERROR(check_count("CacheOptions.sink_tokens", options.sink_tokens, 0, kMaxTokens));
  KVASS_RETURN_IF_ERROR(check_count("CacheOptions.sink_window", options.sink_window, 1, kMaxTokens));
  if (options.context < options.sink_tokens + options.sink_window) {
    return bad_input("CacheOptions.context",
                     "at least " + std::to_string(options.sink_tokens + options.sink_window) +
                         " tokens, CacheOptions.sink_tokens + CacheOptions.sink_window",
                     std::to_string(options.context));
  }
  return {};
}

Status check_shape(const CacheShape& shape) {
  KVASS_RETURN_IF_ERROR(check_count("CacheShape.kv_heads", shape.kv_heads, 1, kMaxHeads));
  KVASS_RETURN_IF_ERROR(check_count("CacheShape.head_dim", shape.head_dim, 1, kMaxHeadDim));  // bare layers have any
  return check_count("CacheShape.window", shape.window, 0, kMaxTokens);
}

}  // namespace

Result<std::vector<CacheShape>> layered_shapes(const LayerPattern& pattern) {
  const std::optional<int64_t> window = pattern.sliding_window;
  const std::optional<int64_t> every = pattern.sliding_window_pattern;
  KVASS_RETURN_IF_ERROR(check_count("LayerPattern.layers", pattern.layers, 1, 1 << 16));
  KVASS_RETURN_IF_ERROR(check_count("LayerPattern.kv_heads", pattern.kv_heads, 1, kMaxHeads));
  KVASS_RETURN_IF_ERROR(check_count("LayerPattern.head_dim", pattern.head_dim, 1, kMaxHeadDim));
  if (window) KVASS_RETURN_IF_ERROR(check_count("LayerPattern.sliding_window", *window, 1, kMaxTokens));
  if (every && !window) {
    return bad_input("LayerPattern.sliding_window_pattern", "LayerPattern.sliding_window beside it", "none");
  }
  if (every && *every < 2) {
    return bad_input("LayerPattern.sliding_window_pattern", "at least 2 (every how many layers one is full)",
                     std::to_string(*every));
  }
  std::vector<CacheShape> shapes;
  for (int64_t i = 0; i < pattern.layers; ++i) {
    const bool full = !window || (every && (i + 1) % *every == 0);
    shapes.push_back({pattern.kv_heads, pattern.head_dim, full ? 0 : *window});
  }
  return shapes;
}

std::vector<bool> sink_layers(const std::vector<CacheShape>& layers) {
  const auto full = [](const CacheShape& layer) { return layer.window == 0; };
  const bool any = std::any_of(layers.begin(), layers.end(), full);
  std::vector<bool> takes;
  for (const CacheShape& layer : layers) takes.push_back(!any || full(layer));
  return takes;
}

Result<std::vector<int64_t>> cache_lens(const std::vector<CacheShape>& layers, const CacheOptions& options) {
  const int64_t context = options.context - options.chunk;
  if (!options.sinks && context < 1) {
    return bad_input(
        "cache length", "at least 1 token (CacheOptions.context minus CacheOptions.chunk)",
        std::to_string(options.context) + " - " + std::to_string(options.chunk) + " = " + std::to_string(context));
  }
  const std::vector<bool> takes_sinks = sink_layers(layers);
  std::vector<int64_t> lens;
  for (size_t i = 0; i < layers.size(); ++i) {
    const int64_t window = layers[i].window;
    if (options.sinks) {
      lens.push_back(takes_sinks[i] ? options.sink_tokens + sink_window(layers[i], options) : window);
    } else {
      lens.push_back(window == 0 ? context : std::min(window, context));
    }
  }
  return lens;
}

Result<CachePlan> plan_caches(const std::vector<CacheShape>& layers, const CacheOptions& options) {
  KVASS_RETURN_IF_ERROR(check_options(options));
  const std::vector<bool> takes_sinks = sink_layers(layers);
  CachePlan plan;
  plan.chunk = options.chunk;
  for (size_t i = 0; i < layers.size(); ++i) {
    const CacheShape& layer = layers[i];
    KVASS_RETURN_IF_ERROR(check_shape(layer));
    LayerCache cache;
    KVASS_ASSIGN_OR_RETURN(cache.layout, layout_for(layer, takes_sinks[i], options));
    cache.rotary = rotary_for(layer, takes_sinks[i], options);
    cache.shape = {options.dtype, layer.kv_heads, layer.head_dim};
    cache.sink_tiles = (cache.layout.sink() + kTileKeys - 1) / kTileKeys;
    cache.ring_tiles = (cache.layout.ring_slots() + kTileKeys - 1) / kTileKeys;
    const size_t most_tiles = kMaxLayerBytes / (cache.shape.segment_bytes(1) + 1);
    if (static_cast<size_t>(cache.sink_tiles + cache.ring_tiles) > most_tiles) {
      return bad_input("CacheOptions.context", "a cache below 64 TiB a layer",
                       std::to_string(cache.slots()) + " slots of " + std::to_string(layer.kv_heads) + " x " +
                           std::to_string(layer.head_dim));
    }
    cache.sink_offset = plan.bytes;
    cache.ring_offset = plan.bytes + cache.shape.segment_bytes(cache.sink_tiles);
    plan.bytes += cache.bytes();
    if (cache.layout.endless()) {
      // Keys that the next row sees, wherever they begin inside a tile.
      cache.checkpoint_tiles =
          std::min(cache.ring_tiles, (cache.layout.window() - 1 + 2 * (kTileKeys - 1)) / kTileKeys);
    }
    cache.checkpoint_offset = plan.checkpoint_bytes;
    plan.checkpoint_bytes += cache.shape.segment_bytes(cache.checkpoint_tiles);
    plan.layers.push_back(cache);
  }
  plan.checkpoint_base = plan.bytes;
  plan.bytes += static_cast<size_t>(options.checkpoints) * plan.checkpoint_bytes;
  return plan;
}

}  // namespace kvass
