// The lanes of NEON (neon.h) with the dot products of signed bytes that FEAT_DotProd adds. Included by *_dotprod.cc and
// *_i8mm.cc only.
#pragma once

#include "kernels/simd/neon.h"

namespace kvass::dotprod {

struct V : neon::V {
  KVASS_INLINE I dot(I acc, B w, I a) {
    const auto add = [](int32x4_t sum, int32x4_t x, int32x4_t y) {
      return vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(y));
    };
    return {add(acc.a, w.a, a.a), add(acc.b, w.b, a.b), add(acc.c, w.c, a.c), add(acc.d, w.d, a.d)};
  }

  // acc + w · (the kLane-th group of four bytes of `a`), in all lanes.
  template <int kLane>
  KVASS_INLINE I dot_lane(I acc, B w, int8x16_t a) {
    const auto add = [a](int32x4_t sum, int32x4_t x) {
      return vdotq_laneq_s32(sum, vreinterpretq_s8_s32(x), a, kLane);
    };
    return {add(acc.a, w.a), add(acc.b, w.b), add(acc.c, w.c), add(acc.d, w.d)};
  }
};

}  // namespace kvass::dotprod
