// The gate of a gated feed-forward layer: y = gelu_tanh(gate) · up, with
//   gelu_tanh(x) = 0.5 · x · (1 + tanh(u)) = x / (1 + exp(-2u)),   u = sqrt(2/π) · (x + 0.044715 · x³).
// The second form is computed: it is the same function, but keeps its relative accuracy where 1 + tanh cancels.
// The order: z = x · fma(A, x · x, B) with A = -2 · 0.044715 · sqrt(2/π), B = -2 · sqrt(2/π) (so z = -2u), then
// g = x / (1 + exp(z)), y = g · up, with one rounding in each step. As in PyTorch, gelu_tanh(+inf) = +inf and
// gelu_tanh(-inf) = NaN.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

// gate, up, y: [n]; y may be gate or up.
using GeluGateKernel = void (*)(const float* gate, const float* up, float* y, int64_t n);
KVASS_DECLARE_KERNEL(GeluGateKernel, gelu_gate)

}  // namespace kvass
