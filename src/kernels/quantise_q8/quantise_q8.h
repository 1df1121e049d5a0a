// Quantises a row to 8 bits with one scale (docs/numerics.md, 5 and 7): the keys and values of q8 caches, and the
// queries for their keys.
//     amax = max |x|     scale = amax / 127     q = rint(x · (127 / amax)), nearest even
// amax < 2^-100: q and scale are 0. If a value is not finite: q is 0 and scale is NaN, so that every product is NaN.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

// x [n], n a multiple of 16; q [n], which may begin where x does. Returns the scale.
using QuantiseQ8Kernel = float (*)(const float* x, int64_t n, int8_t* q);
KVASS_DECLARE_KERNEL(QuantiseQ8Kernel, quantise_q8)

}  // namespace kvass
