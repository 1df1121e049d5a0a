// Attention of a block of query rows over the cached keys of one KV head (docs/numerics.md, 6): the inner loop of
// ops/attention. Not the operator: nothing is validated, divided among threads or allocated here. Owns no state; all
// buffers are the caller's.
//
// For every row and every span of 512 positions, from scratch, tiles of 64 keys in position order:
//     s = cap(chain_d(q[d], k[d]) · scale)              m = max(m, the tile's visible s)
//     if m rose:  o = o · exp(m_old − m),  l = l · exp(m_old − m)
//     p = exp(s − m)     l[offset mod 16] += p     o = fma(p, v, o), keys ascending
// With q8 caches the query is quantised once per head row and segment (kernels/quantise_q8), and I is the exact dot
// product of bytes:
//     s = cap(float(I) · ((scale_q · scale_k) · scale))     o = fma(p · scale_v, float(v), o)
// Then l is folded, and the spans of a row are merged left to right; the first non-empty span is copied:
//     m = max(m, m_s)    a = exp(m_old − m), b = exp(m_s − m)    l = fma(l_s, b, l·a)    o = fma(o_s, b, o·a)
// A learned sink logit is one last span (m = logit, l = 1, o = 0). The result is o · (1/l), or +0 without keys.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dispatch.h"
#include "kernels/rotary/rotate_row.h"
#include "kvass/tiles.h"

namespace kvass {

// The addresses of a tile's keys and values.
struct AttentionTile {
  const void* k = nullptr;  // [head_dim][64]
  const void* v = nullptr;  // [64] rows of head_dim
  int64_t v_stride = 0;     // elements from a row of v to the next
  // Prefetched into the CPU cache while V and while K are read, as many bytes as K has; null: nothing.
  const uint8_t* ahead_of_v = nullptr;
  const uint8_t* ahead_of_k = nullptr;
};

// Returns tile `tile` of a KV head; only the keys in `lanes` (bit = lane, not 0) must be filled in. Keys or values that
// must be rearranged are written to `scratch`: a tile's bytes, 64-byte aligned.
using AttentionTileReader = AttentionTile (*)(const void* source, int64_t kv_head, int64_t tile, uint64_t lanes,
                                              void* scratch);

// The tiles of one KV head in one segment; `offset` of a key = position − origin.
struct AttentionKeys {
  const uint8_t* data = nullptr;    // [tiles] of K, V: kvass/tiles.h
  int64_t tiles = 0;                // 0: no such segment
  int64_t origin = 0;               // position of offset 0
  const uint64_t* valid = nullptr;  // [tiles] bit = lane: keys that any row may see; null: every key
  // Reads keys that are not stored in tiles; `data` is null then.
  AttentionTileReader read = nullptr;
  const void* source = nullptr;
  int64_t kv_head = 0;
};

// A row is a (query, head of the group) pair, heads fastest: row i is query (first_row + i) / group, head (first_row +
// i) mod group. All rows share a KV head, so one load of a key serves them all. Spans are numbered in merge order: [0,
// sink_spans) are those of the sink segment, the others begin at offset body_first_span · 512 of the body segment.
struct AttentionBlock {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t group = 1;                       // query heads of the KV head
  const float* q = nullptr;                // [queries] rows of [group][head_dim]; not rotated if `cos` is set
  const float* q_sink = nullptr;           // as q: the query for sink keys; null: q
  int64_t q_stride = 0;                    // elements from a query to the next
  float* out = nullptr;                    // as q; holds the row's merged o until the row is finished
  int64_t out_stride = 0;                  // elements
  const RowVisibility* visible = nullptr;  // [queries]
  const float* cos = nullptr;              // [queries][head_dim / 2]; null: q is not rotated
  const float* sin = nullptr;
  const float* sink_cos = nullptr;  // [queries][head_dim / 2], the rotation for sink keys; null: cos and sin
  const float* sink_sin = nullptr;
  RotateRowKernel rotate = nullptr;    // for the same instruction set
  const float* sink_logits = nullptr;  // [group] or null
  float* sums = nullptr;    // [queries] rows of [group][2]: m and l of each row, at the end; null: not wanted
  int64_t sums_stride = 0;  // elements from a query to the next
  float scale = 1.0f;
  float softcap = 0.0f;      // 0: none
  DType dtype = DType::f16;  // storage type of keys and values
  int64_t head_dim = 0;      // a multiple of 16, at most kAttentionMaxHeadDim
  AttentionKeys sink;
  AttentionKeys body;
  int64_t sink_spans = 0;
  int64_t body_first_span = 0;
  void* scratch = nullptr;       // attention_scratch_floats(rows, head_dim) floats, 64-byte aligned
  void* tile_scratch = nullptr;  // for keys with a reader
};

// Tile `tile` of the block's keys, in the cache or from the reader, which fills in the keys in `lanes`.
static inline AttentionTile attention_tile(const AttentionBlock& block, const AttentionKeys& keys, int64_t tile,
                                           uint64_t lanes) {
  if (keys.read) return keys.read(keys.source, keys.kv_head, tile, lanes, block.tile_scratch);
  const size_t bytes = TileShape{block.dtype, 1, block.head_dim}.key_bytes();
  const uint8_t* k = keys.data + static_cast<size_t>(tile % keys.tiles) * 2 * bytes;
  return {k, k + bytes, block.head_dim, k + bytes, k + 2 * bytes};
}

inline constexpr int64_t kAttentionMaxHeadDim = 512;
inline constexpr int64_t kAttentionPartialPad = 16;  // floats before o in a partial: m, l, 14 unused

// The partial of one row and one span: [m, l, unused × 14, o[head_dim]]. l = 0 exactly if the row sees no key of the
// span.
static constexpr int64_t attention_partial_floats(int64_t head_dim) { return head_dim + kAttentionPartialPad; }

// For each row: q, o, a partial, 64 scores, 16 lanes of l, and 14 numbers. For the block: a tile as float32 and one
// rotated row.
static constexpr int64_t attention_scratch_floats(int64_t rows, int64_t head_dim) {
  return rows * (2 * head_dim + 64 + 16) + 14 * ((rows + 15) / 16 * 16) + 2 * 64 * head_dim;
}

// Computes spans [begin, end) of every row. Writes `partials` [end − begin][rows] if it is not null. If it is null, the
// spans must be all that the rows see, and the call finishes the rows of `out`.
using AttentionBlockKernel = void (*)(const AttentionBlock& block, int64_t begin, int64_t end, float* partials);
KVASS_DECLARE_UNIT(dotprod, AttentionBlockKernel, attention_block)
KVASS_DECLARE_KERNEL(AttentionBlockKernel, attention_block)

// Merges the partials [spans][block.rows] of rows [begin, end) of the block into `state` [block.rows][2] (m, l; l = 0
// before the first key) and `out`. `last`: finishes the rows.
using AttentionMergeKernel = void (*)(const AttentionBlock& block, int64_t begin, int64_t end, const float* partials,
                                      int64_t spans, float* state, bool last);
KVASS_DECLARE_KERNEL(AttentionMergeKernel, attention_merge)

}  // namespace kvass
