// quantise_q8 over a set V of lanes.
#pragma once

#include "kernels/quantise_q8/quantise_q8.h"

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) float quantise_q8_row(const float* x, int64_t n, int8_t* q) {
  using F = typename V::F;
  F most = V::zero();
  F poison = V::zero();  // NaN after a value that is not finite
  for (int64_t i = 0; i < n; i += V::kLanes) {
    const F v = V::load(x + i);
    most = V::max(V::abs(v), most);
    poison = V::fma(v, V::zero(), poison);
  }
  const float amax = V::reduce_max(most);
  const bool finite = V::reduce_add(poison) == 0.0f;
  const bool some = finite && amax >= 0x1p-100f;
  const F inverse = V::set1(some ? 127.0f / amax : 0.0f);
  for (int64_t i = 0; i < n; i += V::kLanes) {  // q may overwrite x: only elements that have been read
    V::store_i8(q + i, some ? V::to_int(V::mul(V::load(x + i), inverse)) : V::set1i(0));
  }
  return some ? amax / 127.0f : finite ? 0.0f : __builtin_nanf("");
}

}  // namespace kvass
