#include "kernels/gate/generic.h"
#include "kernels/simd/avx2.h"

namespace kvass::avx2 {

const GateKernel gelu_gate = &gate_row<V, GeluTanh>;
const GateKernel silu_gate = &gate_row<V, Silu>;

}  // namespace kvass::avx2
