// The positions at which the keys and queries of a stream with sinks are rotated. Integers only, no angles. A value;
// the stream's positions are passed in.
//
//     in_cache   keys and queries at their own positions; for sink keys a query is rotated by its place in the cache,
//                min(position, sink + window − 1), so that distances never exceed the cache. StreamingLLM, arXiv
//                2309.17453, section 3.2, without rotating a cached key again
//     original   true positions everywhere: the distance to the sinks grows with the stream
//     wrapped    after the sinks, positions modulo twice the window, s + (position − s) mod 2W, for keys and queries,
//     as
//                in ExecuTorch's exports with attention sinks. Distances are wrong while a window spans the wrap
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

// The rule of one layer's cache. The default is for a layer without sinks: every key and query at its own position.
struct RotaryPositions {
  SinkPositions mode = SinkPositions::original;
  int64_t sink = 0;    // tokens
  int64_t window = 0;  // tokens; at least 1 unless the mode is `original`
  int64_t offset = 0;  // added to every position after the sinks, as if the stream were longer by this many tokens

  // The rotary position of the key at `position`, and of the query there for all keys after the sinks.
  constexpr int64_t key(int64_t position) const {
    if (position < sink) return position;
    const int64_t moved = position + offset;
    return mode == SinkPositions::wrapped ? sink + (moved - sink) % (2 * window) : moved;
  }
  // The rotary position of the query at `position` for sink keys.
  constexpr int64_t sink_query(int64_t position) const {
    return mode == SinkPositions::in_cache ? std::min(key(position), sink + window - 1) : key(position);
  }
  // True if a query is rotated differently for sink keys and for the others.
  constexpr bool two_queries() const { return mode == SinkPositions::in_cache && sink > 0; }

  friend bool operator==(const RotaryPositions&, const RotaryPositions&) = default;
};

}  // namespace kvass
