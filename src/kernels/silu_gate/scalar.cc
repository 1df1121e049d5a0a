#include "kernels/simd/scalar.h"

#include "kernels/functions.h"
#include "kernels/silu_gate/silu_gate.h"

namespace kvass::scalar {
namespace {

void silu_gate_scalar(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = kvass::silu<V>(gate[i]) * up[i];
}

}  // namespace

const SiluGateKernel silu_gate = &silu_gate_scalar;

}  // namespace kvass::scalar
