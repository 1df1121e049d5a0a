// The reference for docs/numerics.md, 6: one row and one key at a time.
#include "kernels/simd/scalar.h"

#include <algorithm>

#include "base/float16.h"
#include "kernels/attention/attention.h"
#include "kernels/functions.h"
#include "kernels/quantise_q8/quantise_q8.h"

namespace kvass::scalar {
namespace {

float load(const void* data, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::f32:
      return static_cast<const float*>(data)[index];
    case DType::f16:
      return f16_to_float(static_cast<const uint16_t*>(data)[index]);
    case DType::bf16:
      return bf16_to_float(static_cast<const uint16_t*>(data)[index]);
    case DType::q8:
      return static_cast<float>(static_cast<const int8_t*>(data)[index]);
  }
  return 0.0f;
}

// docs/numerics.md, 3: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
float fold(const float* lanes) {
  float sums[16];
  std::copy(lanes, lanes + 16, sums);
  for (int width = 8; width >= 1; width /= 2) {
    for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

// The query of one row, its head in the group, and the keys it sees.
struct Row {
  int64_t query;
  int64_t head;
  RowVisibility visible;

  Row(const AttentionBlock& block, int64_t i)
      : query((block.first_row + i) / block.group),
        head((block.first_row + i) % block.group),
        visible(block.visible[query]) {}
  float* out(const AttentionBlock& block) const { return block.out + query * block.out_stride + head * block.head_dim; }
};

void load_query(const AttentionBlock& block, const Row& row, bool in_sink, float* q) {
  const float* x =
      (in_sink && block.q_sink ? block.q_sink : block.q) + row.query * block.q_stride + row.head * block.head_dim;
  const int64_t half = block.head_dim / 2;
  const float* cos = in_sink && block.sink_cos ? block.sink_cos : block.cos;
  const float* sin = in_sink && block.sink_sin ? block.sink_sin : block.sin;
  if (cos) {
    block.rotate(x, cos + row.query * half, sin + row.query * half, q, 1, block.head_dim);
  } else {
    std::copy(x, x + block.head_dim, q);
  }
}

// A query: as floats, or as bytes for q8 keys.
struct Query {
  float x[kAttentionMaxHeadDim];
  int8_t q[kAttentionMaxHeadDim];  // q8
  float scale;
};

// The score of the key in `lane`: q · k, times the block's scale.
float score(const AttentionBlock& block, const Query& query, const void* k, int64_t lane) {
  const int64_t head_dim = block.head_dim;
  if (block.dtype == DType::q8) {
    int32_t dot = 0;
    for (int64_t d = 0; d < head_dim; ++d) {
      dot += query.q[d] * static_cast<const int8_t*>(k)[d / 4 * 4 * kTileKeys + lane * 4 + d % 4];
    }
    const float key_scale = load(static_cast<const int8_t*>(k) + head_dim * kTileKeys, DType::f32, lane);
    return static_cast<float>(dot) * ((query.scale * key_scale) * block.scale);
  }
  float chain = 0.0f;
  for (int64_t d = 0; d < head_dim; ++d) {
    chain = __builtin_fmaf(query.x[d], load(k, block.dtype, d * kTileKeys + lane), chain);
  }
  return chain * block.scale;
}

// Computes one span of one row from scratch and writes `partial`: m, l, …, o.
void run_span(const AttentionBlock& block, const Row& row, int64_t span, float* partial) {
  const bool in_sink = span < block.sink_spans;
  const AttentionKeys& keys = in_sink ? block.sink : block.body;
  const int64_t head_dim = block.head_dim;
  const int64_t begin = in_sink ? keys.origin : std::max(row.visible.begin, keys.origin);
  const int64_t end = in_sink ? row.visible.sink_end : row.visible.end;
  const int64_t first = (in_sink ? span : block.body_first_span + span - block.sink_spans) * kSpanKeys;

  Query query;
  load_query(block, row, in_sink, query.x);
  if (block.dtype == DType::q8) query.scale = quantise_q8(query.x, head_dim, query.q);
  float m = 0.0f;
  float l[16] = {};
  float* o = partial + kAttentionPartialPad;
  std::fill(o, o + head_dim, 0.0f);
  bool empty = true;

  for (int64_t tile = first / kTileKeys; tile < (first + kSpanKeys) / kTileKeys; ++tile) {
    const auto sees = [&](int64_t lane) {
      const int64_t position = keys.origin + tile * kTileKeys + lane;
      return position >= begin && position < end && (!keys.valid || (keys.valid[tile % keys.tiles] >> lane & 1));
    };

    uint64_t lanes = 0;
    for (int64_t lane = 0; lane < kTileKeys; ++lane) lanes |= sees(lane) ? uint64_t{1} << lane : 0;
    if (lanes == 0) continue;
    const AttentionTile at = attention_tile(block, keys, tile, lanes);

    float s[kTileKeys];
    float highest = -__builtin_inff();
    for (int64_t lane = 0; lane < kTileKeys; ++lane) {
      if (!sees(lane)) continue;
      s[lane] = score(block, query, at.k, lane);
      if (block.softcap != 0.0f) s[lane] = softcap<V>(s[lane], block.softcap);
      highest = std::max(highest, s[lane]);
    }

    if (empty) {
      m = highest;
      empty = false;
    } else if (highest > m) {
      const float factor = exp<V>(m - highest);
      for (float& lane : l) lane *= factor;
      for (int64_t d = 0; d < head_dim; ++d) o[d] *= factor;
      m = highest;
    }
    for (int64_t lane = 0; lane < kTileKeys; ++lane) {
      if (!sees(lane)) continue;
      const float p = exp<V>(s[lane] - m);
      l[lane % 16] += p;
      const float weight = block.dtype == DType::q8
                               ? p * load(static_cast<const uint8_t*>(at.v) + head_dim * kTileKeys, DType::f32, lane)
                               : p;
      for (int64_t d = 0; d < head_dim; ++d) {
        o[d] = __builtin_fmaf(weight, load(at.v, block.dtype, lane * at.v_stride + d), o[d]);
      }
    }
  }
  partial[0] = m;
  partial[1] = fold(l);
}

// Merges a partial into `state` (m, l of the row so far) and `out` (o so far).
void merge(const float* partial, int64_t head_dim, float* state, float* out) {
  const float* o = partial + kAttentionPartialPad;
  if (partial[1] == 0.0f) return;
  if (state[1] == 0.0f) {
    state[0] = partial[0];
    state[1] = partial[1];
    std::copy(o, o + head_dim, out);
    return;
  }
  const float m = std::max(state[0], partial[0]);
  const float a = exp<V>(state[0] - m);
  const float b = exp<V>(partial[0] - m);
  state[0] = m;
  state[1] = __builtin_fmaf(partial[1], b, state[1] * a);
  for (int64_t d = 0; d < head_dim; ++d) out[d] = __builtin_fmaf(o[d], b, out[d] * a);
}

void finish(const AttentionBlock& block, const Row& row, float* state, float* out) {
  if (block.sink_logits) {
    float partial[kAttentionMaxHeadDim + kAttentionPartialPad] = {};
    partial[0] = block.sink_logits[row.head];
    partial[1] = 1.0f;
    merge(partial, block.head_dim, state, out);
  }
  if (block.sums) std::copy(state, state + 2, block.sums + row.query * block.sums_stride + row.head * 2);
  if (state[1] == 0.0f) {
    std::fill(out, out + block.head_dim, 0.0f);
    return;
  }
  const float inverse = 1.0f / state[1];
  for (int64_t d = 0; d < block.head_dim; ++d) out[d] *= inverse;
}

void attention_block_scalar(const AttentionBlock& block, int64_t begin, int64_t end, float* partials) {
  for (int64_t i = 0; i < block.rows; ++i) {
    const Row row(block, i);
    if (partials) {
      for (int64_t span = begin; span < end; ++span) {
        run_span(block, row, span,
                 partials + ((span - begin) * block.rows + i) * attention_partial_floats(block.head_dim));
      }
      continue;
    }
    float state[2] = {};
    float partial[kAttentionMaxHeadDim + kAttentionPartialPad];
    for (int64_t span = begin; span < end; ++span) {
      run_span(block, row, span, partial);
      merge(partial, block.head_dim, state, row.out(block));
    }
    finish(block, row, state, row.out(block));
  }
}

void attention_merge_scalar(const AttentionBlock& block, int64_t begin, int64_t end, const float* partials,
                            int64_t spans, float* state, bool last) {
  for (int64_t i = begin; i < end; ++i) {
    const Row row(block, i);
    for (int64_t span = 0; span < spans; ++span) {
      merge(partials + (span * block.rows + i) * attention_partial_floats(block.head_dim), block.head_dim,
            state + 2 * i, row.out(block));
    }
    if (last) finish(block, row, state + 2 * i, row.out(block));
  }
}

}  // namespace

const AttentionBlockKernel attention_block = &attention_block_scalar;
const AttentionMergeKernel attention_merge = &attention_merge_scalar;

}  // namespace kvass::scalar
