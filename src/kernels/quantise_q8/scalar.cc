#include <cmath>

#include "kernels/quantise_q8/quantise_q8.h"

namespace kvass::scalar {
namespace {

float quantise_q8_scalar(const float* x, int64_t n, int8_t* q) {
  float amax = 0.0f;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    finite &= std::isfinite(x[i]);
    amax = std::fabs(x[i]) > amax ? std::fabs(x[i]) : amax;
  }
  const bool some = finite && amax >= 0x1p-100f;
  for (int64_t i = 0; i < n; ++i) {
    q[i] = some ? static_cast<int8_t>(__builtin_rintf(x[i] * (127.0f / amax))) : int8_t{0};
  }
  return some ? amax / 127.0f : finite ? 0.0f : __builtin_nanf("");
}

}  // namespace

const QuantiseQ8Kernel quantise_q8 = &quantise_q8_scalar;

}  // namespace kvass::scalar
