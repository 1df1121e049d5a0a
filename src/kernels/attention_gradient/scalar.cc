// The reference: the header's formulas, one row and one key at a time.
#include "kernels/simd/scalar.h"

#include <algorithm>

#include "kernels/attention_gradient/attention_gradient.h"
#include "kernels/functions.h"

namespace kvass::scalar {
namespace {

float chain(const float* a, const float* b, int64_t b_stride, int64_t n) {
  float sum = 0.0f;
  for (int64_t d = 0; d < n; ++d) sum = __builtin_fmaf(a[d], b[d * b_stride], sum);
  return sum;
}

float score(float sum, float scale, float cap) {
  const float s = sum * scale;
  return cap != 0.0f ? softcap<V>(s, cap) : s;
}

// docs/numerics.md, 3: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
float fold(float* lanes) {
  for (int width = 8; width >= 1; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

float gradient(float p, float dp, float delta, float s, float scale, float cap) {
  float g = p * (dp - delta);
  if (cap != 0.0f) {
    const float t = s / cap;
    g *= __builtin_fmaf(-t, t, 1.0f);
  }
  return g * scale;
}

void scores(const GradientRows& rows, int64_t tile, const float* k, const float* v) {
  const int64_t n = rows.head_dim;
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int64_t lane = 0; lane < kTileKeys; ++lane) {
      if ((rows.masks[tile * rows.rows + i] >> lane & 1) == 0) continue;
      const int64_t at = (tile * rows.rows + i) * kTileKeys + lane;
      rows.s[at] = score(chain(rows.q + i * n, k + lane, kTileKeys, n), rows.scale, rows.softcap);
      rows.dp[at] = chain(rows.dout + i * n, v + lane, kTileKeys, n);
    }
  }
}

void softmax(const GradientRows& rows, GradientStats* stats) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    // Calls body(index of the key in s and dp, lane) for the keys that the row sees, ascending.
    const auto for_keys = [&](auto&& body) {
      for (int64_t tile = 0; tile < rows.tiles; ++tile) {
        for (int64_t lane = 0; lane < kTileKeys; ++lane) {
          if ((rows.masks[tile * rows.rows + i] >> lane & 1) == 0) continue;
          body((tile * rows.rows + i) * kTileKeys + lane, lane);
        }
      }
    };
    stats[i] = {};
    bool empty = true;
    float m = -__builtin_inff();
    for_keys([&](int64_t at, int64_t) {
      m = std::max(m, rows.s[at]);
      empty = false;
    });
    if (empty) continue;
    if (rows.sink_logits) m = std::max(m, rows.sink_logits[i]);
    float l[16] = {};
    for_keys([&](int64_t at, int64_t lane) { l[lane % 16] += exp<V>(rows.s[at] - m); });
    float sum = fold(l);
    if (rows.sink_logits) sum += exp<V>(rows.sink_logits[i] - m);
    const float r = 1.0f / sum;
    float lanes[16] = {};
    for_keys([&](int64_t at, int64_t lane) {
      lanes[lane % 16] = __builtin_fmaf(exp<V>(rows.s[at] - m) * r, rows.dp[at], lanes[lane % 16]);
    });
    stats[i] = {m, r, fold(lanes)};
    if (rows.dlse) stats[i].delta -= rows.dlse[i];
    for_keys([&](int64_t at, int64_t) {
      const float p = exp<V>(rows.s[at] - m) * r;
      rows.s[at] = gradient(p, rows.dp[at], stats[i].delta, rows.s[at], rows.scale, rows.softcap);
    });
  }
}

void queries(const GradientRows& rows, int64_t tile, const float* k) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int64_t lane = 0; lane < kTileKeys; ++lane) {
      if ((rows.masks[tile * rows.rows + i] >> lane & 1) == 0) continue;
      const float g = rows.s[(tile * rows.rows + i) * kTileKeys + lane];
      for (int64_t d = 0; d < rows.head_dim; ++d) {
        float& dq = rows.dq[(d / 16 * rows.rows + i) * 16 + d % 16];
        dq = __builtin_fmaf(g, k[lane * rows.head_dim + d], dq);
      }
    }
  }
}

void keys(const GradientKeys& keys) {
  const int64_t n = keys.head_dim;
  for (int64_t j = 0; j < kTileKeys; ++j) {
    for (int64_t i = 0; i < 64; ++i) {
      if ((keys.masks[j] >> i & 1) == 0) continue;
      const float* q = keys.q + i * n;
      const float* dout = keys.dout + i * n;
      const float s = score(chain(q, keys.k + j * n, 1, n), keys.scale, keys.softcap);
      const float p = exp<V>(s - keys.m[i]) * keys.r[i];
      const float dp = chain(dout, keys.v + j * n, 1, n);
      const float g = gradient(p, dp, keys.delta[i], s, keys.scale, keys.softcap);
      for (int64_t d = 0; d < n; ++d) {
        const int64_t at = (d / 16 * kTileKeys + j) * 16 + d % 16;
        keys.dv[at] = __builtin_fmaf(p, dout[d], keys.dv[at]);
        keys.dk[at] = __builtin_fmaf(g, q[d], keys.dk[at]);
      }
    }
  }
}

}  // namespace

const GradientKernels attention_gradient = {&scores, &softmax, &queries, &keys};

}  // namespace kvass::scalar
