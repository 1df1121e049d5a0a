// The gate of a gated feed-forward layer: y = activation(gate) · up, with one rounding in each step.
//
// gelu_gate: gelu_tanh(x) = 0.5 · x · (1 + tanh(u)) = x / (1 + exp(-2u)),   u = sqrt(2/π) · (x + 0.044715 · x³).
// The second form is computed: it is the same function, but keeps its relative accuracy where 1 + tanh cancels.
// The order: z = x · fma(A, x · x, B) with A = -2 · 0.044715 · sqrt(2/π), B = -2 · sqrt(2/π) (so z = -2u), then
// g = x / (1 + exp(z)), y = g · up.
//
// silu_gate (SwiGLU, arXiv 2002.05202): silu(x) = x · sigmoid(x) = x / (1 + exp(-x)).
// The order: e = exp(0 - x), g = x / (1 + e), y = g · up. Below x = -88.72 the exponential is infinite and g is -0.
//
// As in PyTorch, both are +inf at +inf and NaN at -inf.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

// gate, up, y: [n]; y may be gate or up.
using GateKernel = void (*)(const float* gate, const float* up, float* y, int64_t n);
KVASS_DECLARE_KERNEL(GateKernel, gelu_gate)
KVASS_DECLARE_KERNEL(GateKernel, silu_gate)

}  // namespace kvass
