// The buffers of attention_block while it computes the spans of a block of rows: parts of the caller's scratch
// (attention_scratch_floats). Included by *_<isa>.cc through generic.h; everything here has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/masks.h"

namespace kvass {
namespace {

struct BlockScratch {
  float* keys;         // [4][head_dim][16] a tile's keys as float32
  float* values;       // [head_dim / 16][64][16]
  float* q;            // [rows][head_dim]; with q8 each row is a QueryQ8
  float* o;            // [head_dim / 16][rows][16]
  float* s;            // [rows][64] scores, then weights
  float* l;            // [rows][16]
  float* m;            // [rows]
  float* factor;       // [rows] o is multiplied by it before this tile
  float* state;        // [rows][2] m, l of the merged spans
  int64_t* low;        // [rows] visible offsets [low, high) of this segment
  int64_t* high;       // [rows]
  uint64_t* mask;      // [rows] visible lanes of this tile
  JoinedMask* joined;  // [micro blocks] of this tile

  explicit BlockScratch(const AttentionBlock& block) {
    const int64_t rows = block.rows;
    const int64_t padded = (rows + 15) & ~int64_t{15};  // every part begins on a cache line
    float* next = static_cast<float*>(block.scratch);
    const auto take = [&next](int64_t floats) {
      float* part = next;
      next += floats;
      return part;
    };
    keys = take(64 * block.head_dim);
    values = take(64 * block.head_dim);
    q = take(rows * block.head_dim);
    o = take(rows * block.head_dim);
    s = take(rows * 64);
    l = take(rows * 16);
    m = take(padded);
    factor = take(padded);
    state = take(2 * padded);
    low = reinterpret_cast<int64_t*>(take(2 * padded));
    high = reinterpret_cast<int64_t*>(take(2 * padded));
    mask = reinterpret_cast<uint64_t*>(take(2 * padded));
    joined = reinterpret_cast<JoinedMask*>(take(4 * padded));
  }
};

}  // namespace
}  // namespace kvass
