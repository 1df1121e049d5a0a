// Activations of 16 bits: a unit of its own, because it takes long to compile.
#include "kernels/linear/x86_avx2_dots.h"

namespace kvass::avx2 {

const LinearFunction linear_a16 = linear<V, Dot, ActivationBlock16>;

}  // namespace kvass::avx2
