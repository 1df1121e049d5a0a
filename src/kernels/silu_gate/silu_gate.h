// The gate of a gated feed-forward layer (SwiGLU, arXiv 2002.05202): y = silu(gate) · up, with
//   silu(x) = x · sigmoid(x) = x / (1 + exp(-x)).
// The order: e = exp(0 - x), g = x / (1 + e), y = g · up, with one rounding in each step. Below x = -88.72 the
// exponential is infinite and g is -0. As in PyTorch, silu(+inf) = +inf and silu(-inf) = NaN.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"

namespace kvass {

// gate, up, y: [n]; y may be gate or up.
using SiluGateKernel = void (*)(const float* gate, const float* up, float* y, int64_t n);
KVASS_DECLARE_KERNEL(SiluGateKernel, silu_gate)

}  // namespace kvass
