// Merges spans into rows, over a lane set V: (m, l, o) in span order, then the sink logit, then the division. Included
// by *_<isa>.cc through generic.h; everything here has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/softmax.h"

namespace kvass {
namespace {

static inline __attribute__((always_inline)) float* out_row(const AttentionBlock& block, int64_t i) {
  const int64_t row = block.first_row + i;
  return block.out + row / block.group * block.out_stride + row % block.group * block.head_dim;
}

// Merges a span (m, l, o) into `state` (m, l so far) and `out` (o so far). Vector c of 16 channels of o is at
// c · o_stride.
template <class V>
void merge_span(float m_span, float l_span, const float* o, int64_t o_stride, int64_t head_dim, float* state,
                float* out) {
  using F = typename V::F;
  if (l_span == 0.0f) return;
  if (state[1] == 0.0f) {
    state[0] = m_span;
    state[1] = l_span;
    for (int64_t d = 0; d < head_dim; d += 16, o += o_stride) V::store(out + d, V::load(o));
    return;
  }
  const float m = m_span > state[0] ? m_span : state[0];
  const float a = exp1<V>(state[0] - m);
  const float b = exp1<V>(m_span - m);
  state[0] = m;
  state[1] = __builtin_fmaf(l_span, b, state[1] * a);
  const F va = V::set1(a);
  const F vb = V::set1(b);
  for (int64_t d = 0; d < head_dim; d += 16, o += o_stride) {
    V::store(out + d, V::fma(V::load(o), vb, V::mul(V::load(out + d), va)));
  }
}

// Finishes row i of the block: merges its sink logit, then o · (1/l).
template <class V>
void finish_row(const AttentionBlock& block, int64_t i, float* state) {
  float* out = out_row(block, i);
  if (block.sink_logits) {
    const float zeros[16] = {};
    merge_span<V>(block.sink_logits[(block.first_row + i) % block.group], 1.0f, zeros, 0, block.head_dim, state, out);
  }
  if (block.sums) {
    const int64_t row = block.first_row + i;
    float* sums = block.sums + row / block.group * block.sums_stride + row % block.group * 2;
    sums[0] = state[0];
    sums[1] = state[1];
  }
  const typename V::F inverse = V::set1(1.0f / state[1]);
  for (int64_t d = 0; d < block.head_dim; d += 16) {
    V::store(out + d, state[1] == 0.0f ? V::zero() : V::mul(V::load(out + d), inverse));
  }
}

// attention_merge.
template <class V>
void merge_rows(const AttentionBlock& block, int64_t begin, int64_t end, const float* partials, int64_t spans,
                float* state, bool last) {
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t span = 0; span < spans; ++span) {
      const float* partial = partials + (span * block.rows + i) * attention_partial_floats(block.head_dim);
      merge_span<V>(partial[0], partial[1], partial + kAttentionPartialPad, 16, block.head_dim, state + 2 * i,
                    out_row(block, i));
    }
    if (last) finish_row<V>(block, i, state + 2 * i);
  }
}

}  // namespace
}  // namespace kvass
