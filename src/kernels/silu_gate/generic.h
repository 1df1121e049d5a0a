// silu_gate over a lane set V.
#pragma once

#include "kernels/functions.h"
#include "kernels/silu_gate/silu_gate.h"
#include "kernels/simd/partial.h"

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) void silu_gate_row(const float* gate, const float* up, float* y,
                                                                int64_t n) {
  const int64_t whole = n & ~int64_t{V::kLanes - 1};
  const int64_t rest = n - whole;
  for (int64_t i = 0; i < whole; i += V::kLanes) {
    V::store(y + i, V::mul(silu<V>(V::load(gate + i)), V::load(up + i)));
  }
  if (rest != 0) {
    const typename V::F gated = silu<V>(load_partial<V>(gate + whole, rest));
    store_partial<V>(y + whole, V::mul(gated, load_partial<V>(up + whole, rest)), rest);
  }
}

}  // namespace kvass
