#include "kernels/gate/generic.h"
#include "kernels/simd/avx512vnni.h"

namespace kvass::avx512vnni {

const GateKernel gelu_gate = &gate_row<V, GeluTanh>;
const GateKernel silu_gate = &gate_row<V, Silu>;

}  // namespace kvass::avx512vnni
