// The gradients over a lane set V, with the register-blocked loops of attention. For dq the rows are queries and the
// lanes are keys; for dk and dv the rows are keys and the lanes are queries. Included by *_<isa>.cc; everything has
// internal linkage.
#pragma once

#include <cstdint>

#include "kernels/attention/masks.h"
#include "kernels/attention/micro.h"
#include "kernels/attention_gradient/attention_gradient.h"
#include "kernels/functions.h"

namespace kvass {
namespace {

template <class V, int kAccumulators>
struct Gradients {
  using F = typename V::F;
  using M = typename V::M;
  using Loops = Micro<V, StoredF32<V>, kAccumulators>;

  static M lanes(uint64_t mask, int c) { return V::mask(static_cast<uint32_t>(mask >> (16 * c) & 0xffff)); }

  // s [rows][64] = the dot products of a's rows with the columns.
  static void chains(const float* a, int64_t rows, int64_t head_dim, const float* columns, const uint64_t* masks,
                     float* s) {
    const KeyView<float> view{columns, kTileKeys, 16, 0.0f, nullptr, 0};
    for (int64_t i = 0; i < rows; i += kMicroRows) {
      const int64_t count = smaller(kMicroRows, rows - i);
      const uint64_t seen = join_masks(masks + i, count).seen;
      if (seen != 0) Loops::score[count](view, 0, 4, seen, a + i * head_dim, head_dim, s + i * 64);
    }
  }

  // o [head_dim / 16][rows][16] += weights [rows][64] · b [64][head_dim], ascending, for the keys in the masks.
  static void accumulate(const float* weights, const uint64_t* masks, int64_t rows, const float* b, int64_t head_dim,
                         float* o) {
    constexpr float kOnes[kMicroRows] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    const ValueView<float> view{b, head_dim, 16, nullptr};
    const auto add = [&](int64_t i, int64_t count, int64_t begin, int64_t end) {
      Loops::value[count](view, 0, head_dim / 16, weights + i * 64, begin, end, kOnes, o + i * 16, rows * 16);
    };
    for (int64_t i = 0; i < rows; i += kMicroRows) {
      const int64_t count = smaller(kMicroRows, rows - i);
      const JoinedMask joined = join_masks(masks + i, count);
      if (joined.common != 0) {
        add(i, count, __builtin_ctzll(joined.common), 64 - __builtin_clzll(joined.common));
        continue;
      }
      for (int64_t row = i; row < i + count; ++row) {
        uint64_t seen = masks[row];
        while (seen != 0) {
          const auto [begin, end] = next_range(seen, masks[row] ^ masks[row] << 1);
          add(row, 1, begin, end);
        }
      }
    }
  }

  static F capped(F chain, float scale, float cap) {
    const F s = V::mul(chain, V::set1(scale));
    return cap != 0.0f ? softcap<V>(s, V::set1(cap)) : s;
  }

  static F gradient(F p, F dp, F delta, F s, float scale, float cap) {
    F g = V::mul(p, V::sub(dp, delta));
    if (cap != 0.0f) {
      const F t = V::div(s, V::set1(cap));
      g = V::mul(g, V::fnma(t, t, V::set1(1.0f)));
    }
    return V::mul(g, V::set1(scale));
  }

  static void scores(const GradientRows& rows, int64_t tile, const float* k_columns, const float* v_columns) {
    const uint64_t* masks = rows.masks + tile * rows.rows;
    float* s = rows.s + tile * rows.rows * kTileKeys;
    chains(rows.q, rows.rows, rows.head_dim, k_columns, masks, s);
    chains(rows.dout, rows.rows, rows.head_dim, v_columns, masks, rows.dp + tile * rows.rows * kTileKeys);
    for (int64_t i = 0; i < rows.rows; ++i) {
      if (masks[i] == 0) continue;
      for (int c = 0; c < 4; ++c) {
        float* at = s + i * kTileKeys + c * 16;
        V::store(at, capped(V::load(at), rows.scale, rows.softcap));
      }
    }
  }

  static void softmax(const GradientRows& rows, GradientStats* stats) {
    for (int64_t i = 0; i < rows.rows; ++i) {
      // Calls body(s, dp, mask of the visible keys) for each group of 16 keys, ascending.
      const auto for_keys = [&](auto&& body) {
        for (int64_t tile = 0; tile < rows.tiles; ++tile) {
          const uint64_t mask = rows.masks[tile * rows.rows + i];
          if (mask == 0) continue;
          const int64_t at = (tile * rows.rows + i) * kTileKeys;
          for (int c = 0; c < 4; ++c) body(rows.s + at + c * 16, rows.dp + at + c * 16, lanes(mask, c));
        }
      };
      stats[i] = {};
      uint64_t any = 0;
      for (int64_t tile = 0; tile < rows.tiles; ++tile) any |= rows.masks[tile * rows.rows + i];
      if (any == 0) continue;
      F highest = V::set1(-__builtin_inff());
      for_keys([&](const float* s, const float*, M seen) {
        highest = V::max(V::select(seen, V::load(s), V::set1(-__builtin_inff())), highest);
      });
      float m = V::reduce_max(highest);
      if (rows.sink_logits && rows.sink_logits[i] > m) m = rows.sink_logits[i];
      const F top = V::set1(m);
      F sums = V::zero();
      for_keys([&](const float* s, const float*, M seen) {
        sums = V::add(sums, V::select(seen, exp_nonpositive<V>(V::sub(V::load(s), top)), V::zero()));
      });
      float sum = V::reduce_add(sums);
      if (rows.sink_logits) {
        float one[16];
        V::store(one, exp_nonpositive<V>(V::set1(rows.sink_logits[i] - m)));
        sum += one[0];
      }
      const float r = 1.0f / sum;
      const F inverse = V::set1(r);
      F deltas = V::zero();
      for_keys([&](const float* s, const float* dp, M seen) {
        const F p = V::mul(exp_nonpositive<V>(V::sub(V::load(s), top)), inverse);
        deltas = V::select(seen, V::fma(p, V::load(dp), deltas), deltas);
      });
      stats[i].m = m;
      stats[i].r = r;
      stats[i].delta = V::reduce_add(deltas);
      if (rows.dlse) stats[i].delta -= rows.dlse[i];
      const F delta = V::set1(stats[i].delta);
      for_keys([&](float* s, const float* dp, M) {
        const F p = V::mul(exp_nonpositive<V>(V::sub(V::load(s), top)), inverse);
        V::store(s, gradient(p, V::load(dp), delta, V::load(s), rows.scale, rows.softcap));
      });
    }
  }

  static void queries(const GradientRows& rows, int64_t tile, const float* k) {
    accumulate(rows.s + tile * rows.rows * kTileKeys, rows.masks + tile * rows.rows, rows.rows, k, rows.head_dim,
               rows.dq);
  }

  static void keys(const GradientKeys& keys) {
    chains(keys.k, kTileKeys, keys.head_dim, keys.q_columns, keys.masks, keys.p);
    chains(keys.v, kTileKeys, keys.head_dim, keys.dout_columns, keys.masks, keys.g);
    for (int64_t j = 0; j < kTileKeys; ++j) {
      if (keys.masks[j] == 0) continue;
      for (int c = 0; c < 64; c += 16) {
        float* p_at = keys.p + j * 64 + c;
        float* g_at = keys.g + j * 64 + c;
        const F s = capped(V::load(p_at), keys.scale, keys.softcap);
        const F p = V::mul(exp_nonpositive<V>(V::sub(s, V::load(keys.m + c))), V::load(keys.r + c));
        V::store(g_at, gradient(p, V::load(g_at), V::load(keys.delta + c), s, keys.scale, keys.softcap));
        V::store(p_at, p);
      }
    }
    accumulate(keys.p, keys.masks, kTileKeys, keys.dout, keys.head_dim, keys.dv);
    accumulate(keys.g, keys.masks, kTileKeys, keys.q, keys.head_dim, keys.dk);
  }

  static constexpr GradientKernels kernels = {&scores, &softmax, &queries, &keys};
};

}  // namespace
}  // namespace kvass
