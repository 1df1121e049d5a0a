#include "ops/attention/weights.h"

#include <algorithm>
#include <cassert>

#include "base/float16.h"
#include "kernels/attention/attention.h"
#include "kernels/functions.h"
#include "kernels/quantise_q8/quantise_q8.h"
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
    case DType::q8:
      break;  // see score_q8
  }
  return 0.0f;
}

// Scores of lanes [lane, lane + keys) of a q8 tile (docs/numerics.md, 7).
void score_q8(const uint8_t* tile, int64_t head_dim, int64_t lane, int64_t keys, const int8_t* q, float q_scale,
              float scale, float* scores) {
  const float* key_scales = reinterpret_cast<const float*>(tile + head_dim * kTileKeys) + lane;
  for (int64_t i = 0; i < keys; ++i) {
    int32_t dot = 0;
    for (int64_t d = 0; d < head_dim; ++d) {
      dot += q[d] * reinterpret_cast<const int8_t*>(tile)[d / 4 * 4 * kTileKeys + (lane + i) * 4 + d % 4];
    }
    scores[i] = static_cast<float>(dot) * ((q_scale * key_scales[i]) * scale);
  }
}

void row_weights(const AttentionArgs& args, const AttentionRun& run, int64_t row, int64_t head, float* out) {
  const TileShape& shape = args.shape;
  const RowVisibility& visible = run.visible[row];
  const int64_t kv_head = head / (args.heads / shape.kv_heads);
  const float* q = args.q + (run.first_row + row) * args.q_stride + head * shape.head_dim;
  const int64_t count = std::max<int64_t>(0, visible.end - visible.begin);
  const bool q8 = shape.dtype == DType::q8;
  int8_t q_ints[kAttentionMaxHeadDim];
  const float q_scale = q8 ? scalar::quantise_q8(q, shape.head_dim, q_ints) : 0.0f;
  float most = -__builtin_inff();
  for (int64_t at = 0; at < count;) {
    const int64_t position = visible.begin + at;
    const int64_t lane = KeySegment::lane_of(position - run.body.origin);
    const int64_t keys = std::min(kTileKeys - lane, count - at);
    const uint8_t* tile =
        run.body.data + static_cast<size_t>(kv_head * run.body.tiles + run.body.tile_of(position)) * shape.tile_bytes();
    float scores[kTileKeys] = {};
    if (q8) score_q8(tile, shape.head_dim, lane, keys, q_ints, q_scale, args.scale, scores);
    for (int64_t d = 0; !q8 && d < shape.head_dim; ++d) {
      for (int64_t i = 0; i < keys; ++i) {
        scores[i] = __builtin_fmaf(q[d], load(tile, d * kTileKeys + lane + i, shape.dtype), scores[i]);
      }
    }
    for (int64_t i = 0; i < keys; ++i) {
      out[at + i] = q8 ? scores[i] : scores[i] * args.scale;
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
