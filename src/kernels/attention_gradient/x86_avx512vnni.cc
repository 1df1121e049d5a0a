#include "kernels/attention_gradient/generic.h"
#include "kernels/simd/avx512vnni.h"

namespace kvass::avx512vnni {

const GradientKernels attention_gradient = Gradients<V, 24>::kernels;

}  // namespace kvass::avx512vnni
