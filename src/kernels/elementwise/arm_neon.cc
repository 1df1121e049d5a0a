#include "kernels/elementwise/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {
namespace {

void add_kernel(const float* a, const float* b, float* y, int64_t n) { add_row<V>(a, b, y, n); }
void scale_kernel(const float* x, float factor, float* y, int64_t n) { scale_row<V>(x, factor, y, n); }
void softcap_kernel(const float* x, float cap, float* y, int64_t n) { softcap_row<V>(x, cap, y, n); }
void gelu_kernel(const float* x, float* y, int64_t n) { gelu_row<V>(x, y, n); }

}  // namespace

const AddKernel add = &add_kernel;
const ScaleKernel scale = &scale_kernel;
const SoftcapKernel softcap = &softcap_kernel;
const GeluKernel gelu = &gelu_kernel;

}  // namespace kvass::neon
