// Which bytes of a layer's cache hold a range of positions: whole tiles, as few stretches as they lie in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kvass/cache_plan.h"

namespace kvass {

// range(offset, bytes), both of the sequence's block, for every stretch of tiles that holds sink positions
// [0, min(end, sink)) or positions [begin, end) after the sinks. At most a ring's worth of positions.
template <class Range>
void for_each_tile_range(const LayerCache& layer, int64_t begin, int64_t end, Range&& range) {
  const auto stretch = [&](size_t base, int64_t tiles, int64_t first, int64_t count) {
    const size_t tile = layer.shape.tile_bytes();
    for (int64_t head = 0; head < layer.shape.kv_heads && count > 0; ++head) {
      range(base + static_cast<size_t>(head * tiles + first) * tile, static_cast<size_t>(count) * tile);
    }
  };
  const int64_t sink = layer.layout.sink();
  stretch(layer.sink_offset, layer.sink_tiles, 0, (std::min(end, sink) + kTileKeys - 1) / kTileKeys);
  begin = std::max(begin, sink);
  if (begin >= end) return;
  const int64_t first = (begin - sink) / kTileKeys % layer.ring_tiles;
  const int64_t touched = (end - 1 - sink) / kTileKeys - (begin - sink) / kTileKeys + 1;
  const int64_t count = std::min(layer.ring_tiles, touched);
  const int64_t before_wrap = std::min(count, layer.ring_tiles - first);
  stretch(layer.ring_offset, layer.ring_tiles, first, before_wrap);
  stretch(layer.ring_offset, layer.ring_tiles, 0, count - before_wrap);
}

}  // namespace kvass
