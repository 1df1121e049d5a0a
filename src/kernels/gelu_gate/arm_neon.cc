#include "kernels/gelu_gate/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {
namespace {

void gelu_gate_kernel(const float* gate, const float* up, float* y, int64_t n) { gelu_gate_row<V>(gate, up, y, n); }

}  // namespace

const GeluGateKernel gelu_gate = &gelu_gate_kernel;

}  // namespace kvass::neon
