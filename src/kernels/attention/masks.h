// The micro blocks of rows, and the keys of a tile that rows see, as 64-bit masks (bit = lane). Everything here has
// internal linkage.
#pragma once

#include <cstdint>

namespace kvass {
namespace {

static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

constexpr int kMicroRows = 6;  // largest number of rows in a micro block

// Divides rows into micro blocks: block i has rows [begin(i), begin(i + 1)); sizes differ by at most one.
struct MicroBlocks {
  int64_t count;
  int64_t rows;  // rows of a block; the first `larger` blocks have one more
  int64_t larger;

  explicit MicroBlocks(int64_t all)
      : count((all + kMicroRows - 1) / kMicroRows), rows(all / count), larger(all % count) {}
  int64_t begin(int64_t i) const { return i * rows + smaller(i, larger); }
};

// The lanes of the tile at offset `first` that lie in [low, high).
static inline uint64_t tile_mask(int64_t low, int64_t high, int64_t first) {
  const int64_t begin = larger(low - first, 0);
  const int64_t end = smaller(high - first, 64);
  return begin < end ? (~uint64_t{0} >> (64 - (end - begin))) << begin : 0;
}

// The combined masks of a few rows.
struct JoinedMask {
  uint64_t seen;    // some row sees the key
  uint64_t common;  // `seen`, if it is one range of keys that every row sees; otherwise 0
};

static inline JoinedMask join_masks(const uint64_t* masks, int64_t count) {
  uint64_t any = 0;
  uint64_t all = ~uint64_t{0};
  for (int64_t i = 0; i < count; ++i) {
    any |= masks[i];
    all &= masks[i];
  }
  const uint64_t run = all == 0 ? 0 : all >> __builtin_ctzll(all);
  return {any, any == all && (run & (run + 1)) == 0 ? all : 0};
}

// The first range of keys in `seen` that the same rows see; removes it from `seen`. Bit j of `edges` is set if some row
// sees exactly one of keys j - 1 and j.
struct KeyRange {
  int begin;
  int end;
};

static inline KeyRange next_range(uint64_t& seen, uint64_t edges) {
  const int begin = __builtin_ctzll(seen);
  const uint64_t later = begin == 63 ? 0 : edges >> (begin + 1) << (begin + 1);
  const int end = later == 0 ? 64 : __builtin_ctzll(later);
  seen = end == 64 ? 0 : seen >> end << end;
  return {begin, end};
}

}  // namespace
}  // namespace kvass
