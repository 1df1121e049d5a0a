// One row and one tile of the running softmax, over a lane set V: turns scores into weights and updates m and the lanes
// of l. Included by *_<isa>.cc through generic.h; everything here has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/functions.h"

namespace kvass {
namespace {

// exp(x), x not positive.
template <class V>
static inline __attribute__((always_inline)) float exp1(float x) {
  float lanes[V::kLanes];
  V::store(lanes, exp_nonpositive<V>(V::set1(x)));
  return lanes[0];
}

// s [64]: in, the dot products; out, the weights p, +0 for keys not in `mask` (bit = lane, not 0). m: -inf before the
// first key. l [16]. `cap` 0: none. `kAll`: the mask is full. Returns the factor for o before this tile's values.
template <class V, bool kAll>
float weigh_tile(float* s, uint64_t mask, float scale, float cap, float* m, float* l) {
  using F = typename V::F;
  const auto lanes = [mask](int c) { return V::mask(static_cast<uint32_t>(mask >> (16 * c) & 0xffff)); };
  const F factors = V::set1(scale);
  F x[4];
  for (int c = 0; c < 4; ++c) x[c] = V::mul(V::load(s + c * 16), factors);
  if (cap != 0.0f) {
    const F caps = V::set1(cap);
    for (int c = 0; c < 4; ++c) x[c] = softcap<V>(x[c], caps);
  }
  if constexpr (!kAll) {
    for (int c = 0; c < 4; ++c) x[c] = V::select(lanes(c), x[c], V::set1(-__builtin_inff()));
  }
  const float highest = V::reduce_max(V::max(V::max(x[0], x[1]), V::max(x[2], x[3])));
  F sums = V::load(l);
  float factor = 1.0f;
  if (highest > *m) {
    factor = exp1<V>(*m - highest);  // 0 for the first visible tile: l and o are +0 and stay +0
    sums = V::mul(sums, V::set1(factor));
    *m = highest;
  }
  const F top = V::set1(*m);
  for (int c = 0; c < 4; ++c) {
    F p = exp_nonpositive<V>(V::sub(x[c], top));
    if constexpr (!kAll) p = V::select(lanes(c), p, V::zero());  // -inf - m would be NaN if m is -inf
    sums = V::add(sums, p);
    V::store(s + c * 16, p);
  }
  V::store(l, sums);
  return factor;
}

}  // namespace
}  // namespace kvass
