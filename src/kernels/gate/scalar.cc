#include "kernels/simd/scalar.h"

#include "kernels/functions.h"
#include "kernels/gate/gate.h"

namespace kvass::scalar {
namespace {

void gelu_gate_scalar(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = kvass::gelu_tanh<V>(gate[i]) * up[i];
}
void silu_gate_scalar(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = kvass::silu<V>(gate[i]) * up[i];
}

}  // namespace

const GateKernel gelu_gate = &gelu_gate_scalar;
const GateKernel silu_gate = &silu_gate_scalar;

}  // namespace kvass::scalar
