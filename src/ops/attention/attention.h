// The one attention of the project: query rows over the keys and values in a sequence's cache, in prefill, decode and
// any mix of them. Not a cache: it reads the segments of kvass/tiles.h, in which all keys (the rows' own included) have
// already been written. Owns nothing; scratch is the caller's, and nothing is allocated.
//
//     out[r, h] = Σ_k softmax_k(cap(q[r, h] · k[k, h / group] · scale)) v[k, h / group]     over the keys that row r
//     sees
//
// with group = heads / kv_heads and cap(s) = softcap · tanh(s / softcap) if softcap is not 0. A learned sink logit of a
// head adds its exp to the softmax's denominator. A row that sees no key is exactly +0. The order of operations is in
// docs/numerics.md, 6: the bits of a row depend only on its query, its keys, and their positions counted from the
// segments' origins.
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
  int64_t first_row = 0;  // index of the run's first row in q, out and the rotary tables
  int64_t rows = 0;
  KeySegment sink;  // tiles = 0: none
  KeySegment body;
  const RowVisibility* visible = nullptr;  // [rows]
  // Key padding, [tiles]: bit = lane of a tile of the segment, 0 = padding. Null: no padding.
  const uint64_t* sink_valid = nullptr;
  const uint64_t* body_valid = nullptr;
  // Keys that are not stored in tiles (the segment's data is then null).
  const RowKeys* sink_rows = nullptr;
  const RowKeys* body_rows = nullptr;
};

struct AttentionArgs {
  const float* q = nullptr;       // [rows][heads * head_dim]; not rotated if `cos` is set
  const float* q_sink = nullptr;  // as q: the query for sink keys, if the caller has rotated it; null: q
  int64_t q_stride = 0;           // elements from a row to the next
  float* out = nullptr;           // [rows][heads * head_dim], not overlapping q
  int64_t out_stride = 0;         // elements
  int64_t heads = 0;              // a multiple of shape.kv_heads
  TileShape shape;                // shape of the cache's tiles; head_dim at most 512
  float scale = 1.0f;
  float softcap = 0.0f;                // 0: none
  const float* sink_logits = nullptr;  // [heads]; null: none
  float* sums = nullptr;               // [rows][heads][2]: m and l (docs/numerics.md, 6); null: not wanted
  const float* cos = nullptr;          // [rows][head_dim / 2] at the rows' own positions; null: q is not rotated
  const float* sin = nullptr;
  const float* sink_cos = nullptr;  // [rows][head_dim / 2], the rotation for sink keys; null: cos and sin
  const float* sink_sin = nullptr;
  bool interleaved = false;            // rotary pairs are (2i, 2i + 1), not (i, i + head_dim / 2)
  std::span<const AttentionRun> runs;  // a row is in at most one run
  void* tile_scratch = nullptr;        // [threads] tiles (shape.tile_bytes), 64-byte aligned; for runs with RowKeys
};

// Bytes that `attention` needs for any args with at most these rows (all runs together) and a pool of `threads`. They
// do not depend on the number of keys.
size_t attention_scratch_bytes(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim, int threads);

// `scratch`: attention_scratch_bytes for these args and pool.threads(), 64-byte aligned.
void attention(const AttentionArgs& args, void* scratch, ThreadPool& pool, Isa isa);

}  // namespace kvass
