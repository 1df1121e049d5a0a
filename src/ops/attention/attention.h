// The one attention of the project: query rows over the keys and values in a sequence's cache, in prefill, decode and
// any mix of them. Not a cache: it reads the segments of kvass/tiles.h, whose keys (the rows' own included) are written
// already. Owns nothing; scratch is the caller's, and nothing is allocated.
//
//     out[r, h] = Σ_k softmax_k(cap(q[r, h] · k[k, h / group] · scale)) v[k, h / group]     over the keys that row r
//     sees
//
// with group = heads / kv_heads and cap(s) = softcap · tanh(s / softcap) where softcap is not 0. A learned sink logit
// of a head adds its exp to the softmax's denominator. A row that sees no key is exactly +0. The order of operations is
// NUMERICS rule 6: the bits of a row depend on its query, its keys and their positions counted from the segments'
// origins, on nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "kvass/tiles.h"
#include "ops/attention/row_keys.h"

namespace kvass {

// Consecutive rows of one sequence.
struct AttentionRun {
  int64_t first_row = 0;  // in q, out and the rotary tables
  int64_t rows = 0;
  KeySegment sink;  // tiles = 0: none
  KeySegment body;
  const RowVisibility* visible = nullptr;  // [rows]
  // Key padding: bit = lane of a tile of the segment, 1 = may be seen; [tiles]. Null: every key.
  const uint64_t* sink_valid = nullptr;
  const uint64_t* body_valid = nullptr;
  // Keys that do not lie in tiles (the segment's data is null): where they are.
  const RowKeys* sink_rows = nullptr;
  const RowKeys* body_rows = nullptr;
};

struct AttentionArgs {
  const float* q = nullptr;       // [rows][heads * head_dim]; not rotated when there are tables
  const float* q_sink = nullptr;  // as q: the query as sink keys see it, where that is no rotation; null: q
  int64_t q_stride = 0;           // elements from a row to the next
  float* out = nullptr;           // [rows][heads * head_dim], not overlapping q
  int64_t out_stride = 0;         // elements
  int64_t heads = 0;              // a multiple of shape.kv_heads
  TileShape shape;                // of the cache; head_dim at most 512
  float scale = 1.0f;
  float softcap = 0.0f;                // 0: none
  const float* sink_logits = nullptr;  // [heads]; null: none
  const float* cos = nullptr;          // [rows][head_dim / 2] at the rows' own positions; null: q is taken as it is
  const float* sin = nullptr;
  const float* sink_cos = nullptr;  // [rows][head_dim / 2] of the query as sink keys see it; null: cos and sin
  const float* sink_sin = nullptr;
  bool interleaved = false;            // rotary pairs are neighbours, not halves
  std::span<const AttentionRun> runs;  // no row in two runs
  void* tile_scratch = nullptr;        // [threads] tiles (shape.tile_bytes), 64-byte aligned; for runs with RowKeys
};

// Bytes that `attention` needs for any args with at most these rows (all runs together) and a pool of `threads`. How
// many keys there are does not matter.
size_t attention_scratch_bytes(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim, int threads);

// `scratch`: attention_scratch_bytes for these args and pool.threads(), 64-byte aligned.
void attention(const AttentionArgs& args, void* scratch, ThreadPool& pool, Isa isa);

}  // namespace kvass
