// rotate_row and rotate_adjacent over a lane set V.
#pragma once

#include "kernels/rotary/rotate_row.h"
#include "kernels/simd/partial.h"

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) void rotate_pairs(typename V::F x1, typename V::F x2, typename V::F c,
                                                               typename V::F s, typename V::F& y1, typename V::F& y2) {
  const typename V::F negative = V::sub(V::set1(-0.0f), s);  // exact; zeros change their sign too
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

// Sixteen elements at a time, eight pairs: cos and sin are repeated for both lanes of a pair, and the lanes of a pair
// are swapped.
template <class V>
static inline __attribute__((always_inline)) typename V::F rotate_neighbours(typename V::F x, typename V::F c,
                                                                             typename V::F s) {
  const typename V::F negative = V::sub(V::set1(-0.0f), s);
  return V::fma(x, c, V::mul(V::swap_pairs(x), V::select(V::mask(0x5555), negative, s)));
}

template <class V>
static inline __attribute__((always_inline)) void rotate_heads_adjacent(const float* x, const float* cos,
                                                                        const float* sin, float* y, int64_t heads,
                                                                        int64_t head_dim) {
  static_assert(V::kLanes == 16);
  const int64_t whole = head_dim & ~int64_t{V::kLanes - 1};
  const int64_t rest = head_dim - whole;
  float last_cos[V::kLanes / 2] = {};
  float last_sin[V::kLanes / 2] = {};
  for (int64_t i = 0; i < rest / 2; ++i) {
    last_cos[i] = cos[whole / 2 + i];
    last_sin[i] = sin[whole / 2 + i];
  }
  for (int64_t head = 0; head < heads; ++head, x += head_dim, y += head_dim) {
    for (int64_t i = 0; i < whole; i += V::kLanes) {
      V::store(y + i, rotate_neighbours<V>(V::load(x + i), V::load_doubled(cos + i / 2), V::load_doubled(sin + i / 2)));
    }
    if (rest != 0) {
      const typename V::F turned =
          rotate_neighbours<V>(load_partial<V>(x + whole, rest), V::load_doubled(last_cos), V::load_doubled(last_sin));
      store_partial<V>(y + whole, turned, rest);
    }
  }
}

}  // namespace kvass
