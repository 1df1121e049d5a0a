#include "ops/attention/weights.h"

#include <algorithm>
#include <cassert>

#include "base/float16.h"
#include "kernels/functions.h"
#include "kernels/simd/scalar.h"

namespace kvass {
namespace {

float load(const uint8_t* data, int64_t index, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return reinterpret_cast<const float*>(data)[index];
    case DType::f16:
      return f16_to_float(reinterpret_cast<const uint16_t*>(data)[index]);
    case DType::bf16:
      return bf16_to_float(reinterpret_cast<const uint16_t*>(data)[index]);
  }
  return 0.0f;
}

void row_weights(const AttentionArgs& args, const AttentionRun& run, int64_t row, int64_t head, float* out) {
  const TileShape& shape = args.shape;
  const RowVisibility& visible = run.visible[row];
  const int64_t kv_head = head / (args.heads / shape.kv_heads);
  const float* q = args.q + (run.first_row + row) * args.q_stride + head * shape.head_dim;
  const int64_t count = std::max<int64_t>(0, visible.end - visible.begin);
  float most = -__builtin_inff();
  for (int64_t at = 0; at < count;) {
    const int64_t position = visible.begin + at;
    const int64_t lane = KeySegment::lane_of(position - run.ring.origin);
    const int64_t keys = std::min(kTileKeys - lane, count - at);
    const uint8_t* tile =
        run.ring.data + static_cast<size_t>(kv_head * run.ring.tiles + run.ring.tile_of(position)) * shape.tile_bytes();
    float scores[kTileKeys] = {};
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      for (int64_t i = 0; i < keys; ++i) {
        scores[i] = __builtin_fmaf(q[d], load(tile, d * kTileKeys + lane + i, shape.dtype), scores[i]);
      }
    }
    for (int64_t i = 0; i < keys; ++i) {
      out[at + i] = scores[i] * args.scale;
      most = std::max(most, out[at + i]);
    }
    at += keys;
  }
  float sums[16] = {};
  for (int64_t j = 0; j < count; ++j) {
    out[j] = exp_nonpositive<scalar::V>(out[j] - most);
    sums[j % 16] += out[j];
  }
  for (int half = 8; half >= 1; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  const float inverse = 1.0f / sums[0];
  for (int64_t j = 0; j < count; ++j) out[j] *= inverse;
}

}  // namespace

void attention_weights(const AttentionArgs& args, int64_t head, float* out, int64_t out_stride, ThreadPool& pool) {
  assert(head >= 0 && head < args.heads);
  for (const AttentionRun& run : args.runs) {
    pool.run(run.rows,
             [&](int64_t row, int) { row_weights(args, run, row, head, out + (run.first_row + row) * out_stride); });
  }
}

}  // namespace kvass
