// argmax over a lane set V: the lanes find the maximum of each block. Only a block that raises the maximum is searched
// for its index.
#pragma once

#include "kernels/argmax/argmax.h"

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) Argmax argmax_row(const float* x, int64_t n) {
  using F = typename V::F;
  constexpr int64_t kBlock = 1024;  // still in the first-level cache for the search
  Argmax best{-1, 0.0f};
  float highest = -__builtin_inff();
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = n - begin < kBlock ? n : begin + kBlock;
    F m0 = V::set1(highest), m1 = m0, m2 = m0, m3 = m0;  // four chains hide the latency of max
    int64_t i = begin;
    for (; i + 4 * V::kLanes <= end; i += 4 * V::kLanes) {  // V::max gives its second argument if either is NaN
      m0 = V::max(V::load(x + i), m0);
      m1 = V::max(V::load(x + i + V::kLanes), m1);
      m2 = V::max(V::load(x + i + 2 * V::kLanes), m2);
      m3 = V::max(V::load(x + i + 3 * V::kLanes), m3);
    }
    float maximum = V::reduce_max(V::max(V::max(m0, m1), V::max(m2, m3)));
    for (; i < end; ++i) {
      if (x[i] > maximum) maximum = x[i];
    }
    if (maximum > highest) {
      highest = maximum;
      int64_t index = begin;
      while (x[index] != maximum) ++index;
      best = {index, x[index]};
    }
  }
  if (best.index < 0) {  // nothing above -inf
    for (int64_t i = 0; i < n; ++i) {
      if (x[i] == highest) return {i, highest};
    }
  }
  return best;
}

}  // namespace kvass
