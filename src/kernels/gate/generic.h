// The gates over a lane set V.
#pragma once

#include "kernels/functions.h"
#include "kernels/gate/gate.h"
#include "kernels/simd/partial.h"

namespace kvass {

struct GeluTanh {
  template <class V>
  static inline __attribute__((always_inline)) typename V::F of(typename V::F x) {
    return gelu_tanh<V>(x);
  }
};
struct Silu {
  template <class V>
  static inline __attribute__((always_inline)) typename V::F of(typename V::F x) {
    return silu<V>(x);
  }
};

template <class V, class Activation>
static void gate_row(const float* gate, const float* up, float* y, int64_t n) {
  const int64_t whole = n & ~int64_t{V::kLanes - 1};
  const int64_t rest = n - whole;
  for (int64_t i = 0; i < whole; i += V::kLanes) {
    V::store(y + i, V::mul(Activation::template of<V>(V::load(gate + i)), V::load(up + i)));
  }
  if (rest != 0) {
    const typename V::F gated = Activation::template of<V>(load_partial<V>(gate + whole, rest));
    store_partial<V>(y + whole, V::mul(gated, load_partial<V>(up + whole, rest)), rest);
  }
}

}  // namespace kvass
