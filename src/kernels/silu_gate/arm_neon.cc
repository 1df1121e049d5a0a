#include "kernels/silu_gate/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {
namespace {

void silu_gate_kernel(const float* gate, const float* up, float* y, int64_t n) { silu_gate_row<V>(gate, up, y, n); }

}  // namespace

const SiluGateKernel silu_gate = &silu_gate_kernel;

}  // namespace kvass::neon
