#include "kernels/attention_gradient/generic.h"
#include "kernels/simd/avx2.h"

namespace kvass::avx2 {

const GradientKernels attention_gradient = Gradients<V, 6>::kernels;

}  // namespace kvass::avx2
