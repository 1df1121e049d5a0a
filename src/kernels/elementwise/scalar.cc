#include "kernels/simd/scalar.h"

#include "kernels/elementwise/elementwise.h"
#include "kernels/functions.h"

namespace kvass::scalar {
namespace {

void add_scalar(const float* a, const float* b, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

void scale_scalar(const float* x, float factor, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}

void softcap_scalar(const float* x, float cap, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = kvass::softcap<V>(x[i], cap);
}

void gelu_scalar(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = kvass::gelu_erf<V>(x[i]);
}

}  // namespace

const AddKernel add = &add_scalar;
const ScaleKernel scale = &scale_scalar;
const SoftcapKernel softcap = &softcap_scalar;
const GeluKernel gelu = &gelu_scalar;

}  // namespace kvass::scalar
