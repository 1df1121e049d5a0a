#include "kernels/gate/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {

const GateKernel gelu_gate = &gate_row<V, GeluTanh>;
const GateKernel silu_gate = &gate_row<V, Silu>;

}  // namespace kvass::neon
