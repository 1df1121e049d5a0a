// Activations of 8 bits: a unit of its own, because it takes long to compile.
#include "kernels/linear/x86_avx2_dots.h"

namespace kvass::avx2 {

const LinearFunction linear_a8 = linear<V, Dot, ActivationBlock8>;

}  // namespace kvass::avx2
