// Where on the rotary circle the keys and queries of a stream with sinks stand: integers only, no angles. A value; the
// stream's positions are passed in.
//
//     in_cache   keys and queries at their own positions, but a query looks at sink keys from its place in the cache,
//                min(position, sink + window − 1): distances never grow past the cache. StreamingLLM, arXiv 2309.17453,
//                section 3.2, without rotating a cached key again
//     original   true positions everywhere: the distance to the sinks grows with the stream
//     wrapped    behind the sinks modulo twice the window, s + (position − s) mod 2W, for keys and queries alike: what
//                ExecuTorch's exports with attention sinks do. Distances are wrong while a window spans the wrap
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace kvass {

enum class SinkPositions : uint8_t { in_cache, original, wrapped };

constexpr std::string_view sink_positions_name(SinkPositions mode) {
  switch (mode) {
    case SinkPositions::in_cache:
      return "in-cache";
    case SinkPositions::original:
      return "original";
    case SinkPositions::wrapped:
      return "wrapped";
  }
  return "?";
}

// The rule of one layer's cache. The default is a layer without sinks: everything stands at its own position.
struct RotaryPositions {
  SinkPositions mode = SinkPositions::original;
  int64_t sink = 0;    // tokens
  int64_t window = 0;  // tokens; at least 1 unless the mode is `original`
  int64_t offset = 0;  // added to every position behind the sinks: the state of a stream that is so much longer

  // Of the key at `position`, and of the query there against every key behind the sinks.
  constexpr int64_t key(int64_t position) const {
    if (position < sink) return position;
    const int64_t moved = position + offset;
    return mode == SinkPositions::wrapped ? sink + (moved - sink) % (2 * window) : moved;
  }
  // Of the query at `position` against sink keys.
  constexpr int64_t sink_query(int64_t position) const {
    return mode == SinkPositions::in_cache ? std::min(key(position), sink + window - 1) : key(position);
  }
  // Whether a row looks at sink keys from another place than at the rest.
  constexpr bool two_queries() const { return mode == SinkPositions::in_cache && sink > 0; }

  friend bool operator==(const RotaryPositions&, const RotaryPositions&) = default;
};

}  // namespace kvass
