#include "kernels/argmax/argmax.h"

namespace kvass::scalar {
namespace {

Argmax argmax_scalar(const float* x, int64_t n) {
  Argmax best{-1, 0.0f};
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] == x[i] && (best.index < 0 || x[i] > best.value)) best = {i, x[i]};
  }
  return best;
}

}  // namespace

const ArgmaxKernel argmax = &argmax_scalar;

}  // namespace kvass::scalar
