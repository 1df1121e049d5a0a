// RMSNorm over a set V of 16 lanes: the 16 lanes of the formula. Missing elements of the tail are added as +0. This
// does not change a lane's bits, because a sum of squares is never -0.
#pragma once

#include "kernels/rms_norm/rms_norm.h"
#include "kernels/simd/partial.h"

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) void rms_norm_rows(const RmsNormArgs& args) {
  static_assert(V::kLanes == 16);
  using F = typename V::F;
  const int64_t whole = args.n & ~int64_t{15};
  const int64_t rest = args.n - whole;
  for (int64_t row = 0; row < args.rows; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* y = args.y + row * args.y_stride;
    F sums = V::zero();
    for (int64_t k = 0; k < whole; k += 16) {
      const F v = V::load(x + k);
      sums = V::fma(v, v, sums);
    }
    if (rest != 0) {
      const F v = load_partial<V>(x + whole, rest);
      sums = V::fma(v, v, sums);
    }
    const F mean = V::set1(V::reduce_add(sums) / static_cast<float>(args.n) + args.epsilon);
    const F r = V::div(V::set1(1.0f), V::sqrt(mean));
    for (int64_t k = 0; k < whole; k += 16) {
      V::store(y + k, V::mul(V::mul(V::load(x + k), r), V::load(args.w + k)));
    }
    if (rest != 0) {
      const F scaled = V::mul(load_partial<V>(x + whole, rest), r);
      store_partial<V>(y + whole, V::mul(scaled, load_partial<V>(args.w + whole, rest)), rest);
    }
  }
}

}  // namespace kvass
