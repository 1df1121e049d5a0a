// Merges spans into rows on a device, in the order of attention.h: (m, l, o) in span order, then the sink logit, then
// the division. A thread owns channels; every thread has the same m and l.
#pragma once

#include "kernels/attention/cuda_rows.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

// The factors with which a span is merged into a row: o = o · a + o_span · b.
struct Merge {
  enum { skip, copy, both } how;
  float a, b;
};

// Merges m_span and l_span into the row's m and l.
KVASS_DEVICE_FN Merge merge_span(float m_span, float l_span, float& m, float& l) {
  if (l_span == 0.0f) return {Merge::skip, 0.0f, 0.0f};
  if (l == 0.0f) {
    m = m_span;
    l = l_span;
    return {Merge::copy, 0.0f, 0.0f};
  }
  const float top = m < m_span ? m_span : m;
  const float a = kvass::exp<D>(sub_rn(m, top));
  const float b = kvass::exp<D>(sub_rn(m_span, top));
  m = top;
  l = fma_rn(l_span, b, mul_rn(l, a));
  return {Merge::both, a, b};
}

KVASS_DEVICE_FN float merged(const Merge& merge, float o, float o_span) {
  if (merge.how == Merge::skip) return o;
  if (merge.how == Merge::copy) return o_span;
  return fma_rn(o_span, merge.b, mul_rn(o, merge.a));
}

// The last step of a row: turns o into the result of a channel.
struct Ending {
  Merge logit;
  float inverse;
  bool empty;

  KVASS_METHOD float finish(float o) const {
    if (empty) return 0.0f;
    return mul_rn(merged(logit, o, 0.0f), inverse);
  }
};
KVASS_DEVICE_FN Ending ending_of(const DeviceAttentionParams& p, int64_t head, float m, float l) {
  Ending ending{{Merge::skip, 0.0f, 0.0f}, 0.0f, false};
  if (p.sink_logits) ending.logit = merge_span(p.sink_logits[head], 1.0f, m, l);
  ending.empty = l == 0.0f;
  ending.inverse = div_rn(1.0f, l);
  return ending;
}

// Merges the partials of a row: one block of threads for each row.
struct MergeParams {
  DeviceAttentionParams p;
  const float* partials;  // [items][spans][cell_rows]
  int64_t blocks, spans;
  int block_rows, cell_rows, padded;
};

KVASS_KERNEL void KVASS_BLOCK_THREADS(128) merge_rows(const MergeParams params) {
  const DeviceAttentionParams& p = params.p;
  const int64_t index = block_x() / params.cell_rows;
  const int64_t i = block_x() % params.cell_rows;
  const Item item = item_at(p, index, params.blocks, params.block_rows);
  if (i >= item.rows) return;
  const int64_t step = params.cell_rows * partial_floats(params.padded);
  const float* first = params.partials + index * params.spans * step + i * partial_floats(params.padded);
  float m = 0.0f, l = 0.0f;
  float o[4] = {};  // channels thread + 128 · c
  for (int64_t span = 0; span < params.spans; ++span) {
    const float* partial = first + span * step;
    float o_span[4];
    KVASS_UNROLL
    for (int c = 0; c < 4; ++c) {
      const int d = thread_index() + 128 * c;
      o_span[c] = d < params.padded ? partial[16 + d] : 0.0f;
    }
    const Merge merge = merge_span(partial[0], partial[1], m, l);
    KVASS_UNROLL
    for (int c = 0; c < 4; ++c) o[c] = merged(merge, o[c], o_span[c]);
  }
  const int64_t row = item.first + i;
  const int64_t group = p.heads / p.kv_heads;
  const Ending ending = ending_of(p, item.kv_head * group + row % group, m, l);
  const int64_t to = element_of(p, p.out, item, row);
  KVASS_UNROLL
  for (int c = 0; c < 4; ++c) {
    const int d = thread_index() + 128 * c;
    if (d < p.head_dim) store_element(p.out.data, p.out.dtype, to + d * p.out.channel, ending.finish(o[c]));
  }
}

}  // namespace
}  // namespace kvass::KVASS_DEVICE
