#include "kernels/silu_gate/generic.h"
#include "kernels/simd/avx512vnni.h"

namespace kvass::avx512vnni {
namespace {

void silu_gate_kernel(const float* gate, const float* up, float* y, int64_t n) { silu_gate_row<V>(gate, up, y, n); }

}  // namespace

const SiluGateKernel silu_gate = &silu_gate_kernel;

}  // namespace kvass::avx512vnni
