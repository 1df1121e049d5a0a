#include "kernels/argmax/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {
namespace {

Argmax argmax_kernel(const float* x, int64_t n) { return argmax_row<V>(x, n); }

}  // namespace

const ArgmaxKernel argmax = &argmax_kernel;

}  // namespace kvass::neon
