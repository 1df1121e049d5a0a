// rotate_row over a lane set V.
#pragma once

#include "kernels/rotary/rotate_row.h"
#include "kernels/simd/partial.h"

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) void rotate_pairs(typename V::F x1, typename V::F x2, typename V::F c,
                                                               typename V::F s, typename V::F& y1, typename V::F& y2) {
  const typename V::F negative = V::sub(V::set1(-0.0f), s);  // exact, zeros change sign too
  y1 = V::fma(x1, c, V::mul(x2, negative));
  y2 = V::fma(x2, c, V::mul(x1, s));
}

template <class V>
static inline __attribute__((always_inline)) void rotate_heads(const float* x, const float* cos, const float* sin,
                                                               float* y, int64_t heads, int64_t head_dim) {
  using F = typename V::F;
  const int64_t half = head_dim / 2;
  const int64_t whole = half & ~int64_t{V::kLanes - 1};
  const int64_t rest = half - whole;
  for (int64_t head = 0; head < heads; ++head, x += head_dim, y += head_dim) {
    F y1, y2;
    for (int64_t i = 0; i < whole; i += V::kLanes) {
      rotate_pairs<V>(V::load(x + i), V::load(x + half + i), V::load(cos + i), V::load(sin + i), y1, y2);
      V::store(y + i, y1);
      V::store(y + half + i, y2);
    }
    if (rest != 0) {
      rotate_pairs<V>(load_partial<V>(x + whole, rest), load_partial<V>(x + half + whole, rest),
                      load_partial<V>(cos + whole, rest), load_partial<V>(sin + whole, rest), y1, y2);
      store_partial<V>(y + whole, y1, rest);
      store_partial<V>(y + half + whole, y2, rest);
    }
  }
}

}  // namespace kvass
