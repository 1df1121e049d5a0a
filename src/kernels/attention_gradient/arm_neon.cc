#include "kernels/attention_gradient/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {

const GradientKernels attention_gradient = Gradients<V, 6>::kernels;

}  // namespace kvass::neon
