// LayerNorm over a set V of 16 lanes: the 16 lanes of the formula. Missing elements of the tail are added as +0. This
// does not change a lane's bits, because a lane that starts at +0 is never -0.
#pragma once

#include "kernels/layer_norm/layer_norm.h"
#include "kernels/simd/partial.h"

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) void layer_norm_rows(const LayerNormArgs& args) {
  static_assert(V::kLanes == 16);
  using F = typename V::F;
  const int64_t whole = args.n & ~int64_t{15};
  const int64_t rest = args.n - whole;
  const float n = static_cast<float>(args.n);
  for (int64_t row = 0; row < args.rows; ++row) {
    const float* x = args.x + row * args.n;
    float* y = args.y + row * args.n;
    F sums = V::zero();
    for (int64_t k = 0; k < whole; k += 16) sums = V::add(sums, V::load(x + k));
    if (rest != 0) sums = V::add(sums, load_partial<V>(x + whole, rest));
    const F mean = V::set1(V::reduce_add(sums) / n);
    F squares = V::zero();
    for (int64_t k = 0; k < whole; k += 16) {
      const F d = V::sub(V::load(x + k), mean);
      squares = V::fma(d, d, squares);
    }
    if (rest != 0) {
      float lanes[16];
      V::store(lanes, V::sub(load_partial<V>(x + whole, rest), mean));
      const F d = load_partial<V>(lanes, rest);
      squares = V::fma(d, d, squares);
    }
    const F variance = V::set1(V::reduce_add(squares) / n + args.epsilon);
    const F r = V::div(V::set1(1.0f), V::sqrt(variance));
    for (int64_t k = 0; k < whole; k += 16) {
      const F scaled = V::mul(V::sub(V::load(x + k), mean), r);
      V::store(y + k, V::fma(scaled, V::load(args.w + k), V::load(args.b + k)));
    }
    if (rest != 0) {
      const F scaled = V::mul(V::sub(load_partial<V>(x + whole, rest), mean), r);
      const F w = load_partial<V>(args.w + whole, rest);
      store_partial<V>(y + whole, V::fma(scaled, w, load_partial<V>(args.b + whole, rest)), rest);
    }
  }
}

}  // namespace kvass
