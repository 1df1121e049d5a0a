// attention_exact: the kernel for a storage type and a form of keys (rows or tiles), and its launch. Each combination
// is a file of its own, so that they compile in parallel.
#pragma once

#include "kernels/attention/cuda_merge.h"
#include "kernels/attention/cuda_span.h"
#include "kernels/attention/device_division.h"

namespace kvass::KVASS_DEVICE {
namespace {

struct ExactParams {
  DeviceAttentionParams p;
  int64_t blocks;  // blocks of rows
  int64_t spans;
  int padded, cell_rows;
  float*
      partials;  // [items][spans][cell_rows] if a block takes one span; null: a block takes all and finishes its rows
};

template <class S, bool kRows, int R>
KVASS_KERNEL void KVASS_BLOCK_THREADS(256) exact_kernel(const ExactParams params) {
  const DeviceAttentionParams& p = params.p;
  const Item item = item_at(p, block_x(), params.blocks, R);
  if (item.rows == 0) return;
  const int thread = thread_index(), threads = block_threads();
  Span<S, kRows, R> span(p, item, params.padded);
  const Segment sink = segment_of(p, item, true, span.tile_bytes());
  const Segment body = segment_of(p, item, false, span.tile_bytes());
  const int64_t body_first = first_body_span(p, item, body) - p.sink_spans;

  float m[R], l[R], all[R][2];
  KVASS_UNROLL
  for (int r = 0; r < R; ++r) m[r] = l[r] = all[r][0] = all[r][1] = 0.0f;
  const int64_t begin = params.partials ? block_y() : 0;
  const int64_t end = params.partials ? begin + 1 : params.spans;
  KVASS_NO_UNROLL
  for (int64_t index = begin; index < end; ++index) {
    const bool in_sink = index < p.sink_spans;
    if (index == begin || index == p.sink_spans) span.enter(in_sink ? sink : body, in_sink);
    float o[R][2];
    if (!span.run(in_sink ? index : body_first + index, o)) continue;
    barrier();  // m and l are written
    KVASS_UNROLL
    for (int r = 0; r < R; ++r) {
      const Merge merge = merge_span(span.memory.m[r], span.memory.l[r], m[r], l[r]);
      KVASS_UNROLL
      for (int c = 0; c < 2; ++c) all[r][c] = merged(merge, all[r][c], o[r][c]);
    }
  }
  if (params.partials) {
    const int64_t cell = partial_floats(params.padded);
    float* partial = params.partials + (block_x() * params.spans + begin) * params.cell_rows * cell;
    KVASS_UNROLL
    for (int r = 0; r < R; ++r) {
      if (r >= item.rows) continue;
      if (thread == 0) {
        partial[r * cell] = m[r];
        partial[r * cell + 1] = l[r];
      }
      KVASS_UNROLL
      for (int c = 0; c < 2; ++c) {
        if (thread + c * threads < params.padded) partial[r * cell + 16 + thread + c * threads] = all[r][c];
      }
    }
    return;
  }
  const int64_t group = p.heads / p.kv_heads;
  KVASS_UNROLL
  for (int r = 0; r < R; ++r) {
    if (r >= item.rows) continue;
    const int64_t row = item.first + r;
    const Ending ending = ending_of(p, item.kv_head * group + row % group, m[r], l[r]);
    const int64_t to = element_of(p, p.out, item, row);
    KVASS_UNROLL
    for (int c = 0; c < 2; ++c) {
      const int d = thread + c * threads;
      if (d < p.head_dim) store_element(p.out.data, p.out.dtype, to + d * p.out.channel, ending.finish(all[r][c]));
    }
  }
}

template <class S, bool kRows, int R>
Status launch_exact(const DeviceAttentionParams& p, const AttentionDivision& division, DeviceStream stream) {
  ExactParams params;
  params.p = p;
  params.blocks = division.blocks;
  params.spans = division.spans;
  params.padded = division.padded;
  params.cell_rows = division.cell_rows;
  params.partials = division.by_spans ? static_cast<float*>(p.scratch) : nullptr;
  const int threads = division.padded <= 64 ? 64 : division.padded <= 128 ? 128 : 256;
  SpanMemory<R> memory;
  const size_t shared = memory.carve(nullptr, division.padded, S::kType == DType::q8);
  KVASS_RETURN_IF_ERROR(launch(&exact_kernel<S, kRows, R>, "attention_exact",
                               {division.items, division.by_spans ? division.spans : 1}, threads, shared, stream,
                               params));
  if (!division.by_spans) return {};
  const MergeParams merge{
      p, params.partials, division.blocks, division.spans, division.block_rows, division.cell_rows, division.padded};
  return launch(&merge_rows, "attention_merge", {division.items * division.cell_rows}, 128, 0, stream, merge);
}

template <class S, bool kRows>
Status launch_exact(const DeviceAttentionParams& p, DeviceStream stream) {
  const AttentionDivision division = exact_division(p);
  switch (division.block_rows) {
    case 1:
      return launch_exact<S, kRows, 1>(p, division, stream);
    case 4:
      return launch_exact<S, kRows, 4>(p, division, stream);
    default:
      return launch_exact<S, kRows, 8>(p, division, stream);
  }
}

}  // namespace

// FORM(name, storage type, keys as rows): the combinations. cuda_exact.cu chooses one for a call.
#define KVASS_EXACT_FORMS(FORM)             \
  FORM(exact_rows_f32, StoredF32, true)     \
  FORM(exact_rows_f16, StoredF16, true)     \
  FORM(exact_rows_bf16, StoredBf16, true)   \
  FORM(exact_tiles_f32, StoredF32, false)   \
  FORM(exact_tiles_f16, StoredF16, false)   \
  FORM(exact_tiles_bf16, StoredBf16, false) \
  FORM(exact_tiles_q8, StoredQ8, false)
#define KVASS_EXACT_FORM(name, S, rows) Status name(const DeviceAttentionParams& p, DeviceStream stream);
KVASS_EXACT_FORMS(KVASS_EXACT_FORM)
#undef KVASS_EXACT_FORM

}  // namespace kvass::KVASS_DEVICE
