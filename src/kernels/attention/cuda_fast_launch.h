// attention_fast: the kernel around the work of a warp (cuda_fast.h), and its launch for the head sizes.
#pragma once

#include "kernels/attention/cuda_fast.h"
#include "kernels/attention/cuda_merge.h"
#include "kernels/attention/device_division.h"

namespace kvass::KVASS_DEVICE {
namespace {

struct FastParams {
  DeviceAttentionParams p;
  int64_t blocks;
  int64_t spans;
  int padded, cell_rows;
  float* partials;  // as in ExactParams
};

template <class M, int kDim>
KVASS_KERNEL void KVASS_BLOCK_THREADS(128) fast_kernel(const FastParams params) {
  const DeviceAttentionParams& p = params.p;
  const int threads = block_threads(), thread = thread_index();
  const Item item = item_at(p, block_x(), params.blocks, threads / 32 * kWarpRows);
  if (item.rows == 0) return;
  constexpr int kVectors = kDim / 8;
  Fast<M, kDim> fast(p, item, params.padded);
  const Segment sink = segment_of(p, item, true, fast.tile_bytes());
  const Segment body = segment_of(p, item, false, fast.tile_bytes());
  const int64_t body_first = first_body_span(p, item, body) - p.sink_spans;

  float o[kVectors][4], m[2], l[2], row_m[2] = {}, row_l[2] = {};
  const int64_t begin = params.partials ? block_y() : 0;
  const int64_t end = params.partials ? begin + 1 : params.spans;
  bool some = false;
  KVASS_NO_UNROLL
  for (int64_t index = begin; index < end; ++index) {
    const bool in_sink = index < p.sink_spans;
    if (index == begin || index == p.sink_spans) fast.enter(in_sink ? sink : body, in_sink);
    if (!fast.run(in_sink ? index : body_first + index, o, m, l)) continue;
    KVASS_UNROLL
    for (int i = 0; i < 2; ++i) {
      const Merge merge = merge_span(m[i], l[i], row_m[i], row_l[i]);
      if (end - begin == 1) continue;  // with one span o is already the row's
      KVASS_UNROLL
      for (int c = 0; c < kVectors; ++c) {
        KVASS_UNROLL
        for (int j = 0; j < 2; ++j) {
          float& all = fast.all()[(4 * c + 2 * i + j) * threads + thread];
          all = merged(merge, some ? all : 0.0f, o[c][2 * i + j]);
        }
      }
    }
    some = true;
  }
  if (end - begin > 1) {
    KVASS_UNROLL
    for (int c = 0; c < kVectors; ++c) {
      KVASS_UNROLL
      for (int j = 0; j < 4; ++j) o[c][j] = some ? fast.all()[(4 * c + j) * threads + thread] : 0.0f;
    }
  }

  const int lane = thread % 32;
  const int64_t group = p.heads / p.kv_heads;
  KVASS_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int r = thread / 32 * kWarpRows + lane / 4 + 8 * i;
    if (r >= item.rows) continue;
    const int64_t row = item.first + r;
    const int d0 = lane % 4 * 2;
    if (params.partials) {
      const int64_t cell = partial_floats(params.padded);
      float* partial = params.partials + ((block_x() * params.spans + begin) * params.cell_rows + r) * cell;
      if (lane % 4 == 0) {
        partial[0] = row_m[i];
        partial[1] = row_l[i];
      }
      KVASS_UNROLL
      for (int c = 0; some && c < kVectors; ++c) {
        KVASS_UNROLL
        for (int j = 0; j < 2; ++j) {
          if (c * 8 + d0 + j < params.padded) partial[16 + c * 8 + d0 + j] = o[c][2 * i + j];
        }
      }
      continue;
    }
    const Ending ending = ending_of(p, item.kv_head * group + row % group, row_m[i], row_l[i]);
    const int64_t to = element_of(p, p.out, item, row);
    KVASS_UNROLL
    for (int c = 0; c < kVectors; ++c) {
      KVASS_UNROLL
      for (int j = 0; j < 2; ++j) {
        const int d = c * 8 + d0 + j;
        const float x = some ? o[c][2 * i + j] : 0.0f;
        if (d < p.head_dim) store_element(p.out.data, p.out.dtype, to + d * p.out.channel, ending.finish(x));
      }
    }
  }
}

template <class M, int kDim>
Status launch_fast(const DeviceAttentionParams& p, DeviceStream stream) {
  using Shape = FastShape<kDim>;
  const int64_t rows = p.most_rows * (p.heads / p.kv_heads);
  int warps = rows <= 16 ? 1 : rows <= 32 ? 2 : 4;
  AttentionDivision division = divide_attention(p, warps * kWarpRows);
  while (warps > 1 && Shape::shared_bytes(warps, !division.by_spans && division.spans > 1) > p.shared_bytes) {
    warps /= 2;
    division = divide_attention(p, warps * kWarpRows);
  }
  FastParams params{p, division.blocks, division.spans, division.padded, division.cell_rows, nullptr};
  if (division.by_spans) params.partials = static_cast<float*>(p.scratch);
  const auto shared = static_cast<size_t>(Shape::shared_bytes(warps, !division.by_spans && division.spans > 1));
  KVASS_RETURN_IF_ERROR(launch(&fast_kernel<M, kDim>, "attention_fast",
                               {division.items, division.by_spans ? division.spans : 1}, warps * 32, shared, stream,
                               params));
  if (!division.by_spans) return {};
  const MergeParams merge{
      p, params.partials, division.blocks, division.spans, division.block_rows, division.cell_rows, division.padded};
  return launch(&merge_rows, "attention_merge", {division.items * division.cell_rows}, 128, 0, stream, merge);
}

template <class M>
Status launch_fast(const DeviceAttentionParams& p, DeviceStream stream) {
  if (p.head_dim <= 64) return launch_fast<M, 64>(p, stream);
  if (p.head_dim <= 128) return launch_fast<M, 128>(p, stream);
  return launch_fast<M, 256>(p, stream);
}

}  // namespace
}  // namespace kvass::KVASS_DEVICE
