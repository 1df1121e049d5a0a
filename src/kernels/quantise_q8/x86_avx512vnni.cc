#include "kernels/quantise_q8/generic.h"
#include "kernels/simd/avx512vnni.h"

namespace kvass::avx512vnni {
namespace {

float quantise_q8_kernel(const float* x, int64_t n, int8_t* q) { return quantise_q8_row<V>(x, n, q); }

}  // namespace

const QuantiseQ8Kernel quantise_q8 = &quantise_q8_kernel;

}  // namespace kvass::avx512vnni
