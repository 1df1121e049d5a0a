// What the outputs of a matrix of type Q8_0_split (panel_format.h) can be at most, from half of its bytes: the high
// nibbles say each output but for an error that the Cauchy-Schwarz inequality bounds. So the largest outputs are found
// without computing the others (ops/argmax_linear/argmax_linear.h). One row of activations; it trusts its arguments and
// owns nothing.
//
// With w = d q and q = 16 high + 7.5 + e, an output in the arithmetic of docs/numerics.md, 5 is, over blocks b,
//     Σ (d s) (16 Σ high q_a + 7.5 Σ q_a)   the estimate, exact but for roundings
//   + Σ (d s) Σ e q_a                       within Σ |d| (7.5 Σ |s q_a| over some k's + ‖e‖ ‖s q_a‖ over the others)
//
//     v        = fma(16, float(Σ high q_a), 7.5 · Σ q_a)
//     estimate = fma(v, d · s, estimate)
//     error    = fma(|d|, fma(float(4 ‖e‖), norm, singles), error)
//     most     = fma(error, slack, estimate) + 2^-100, +inf where that is NaN or -inf
// slack = 1/4 + (B + 8) 2^-17 for B blocks: the roundings of both chains, that of the output included, are below
// (2 B + 10) 2^-24 of the sum of the terms' magnitudes, and these are at most 256 times the terms of `error`, as
// ‖q‖ ≤ 128 √32 and 7.5 ≥ √32 / 2 ≤ ‖e‖. 2^-100 is more than what is lost below the normal numbers.
#pragma once

#include "kernels/linear/linear.h"

namespace kvass {

struct ScreenedPanel {
  float most;    // no output of the panel is larger; padding counts as outputs of 0
  float likely;  // the largest estimate; NaN is passed over
};

// Of a block of activations. A few that are large beside the others are better taken singly.
struct ScreenedBlock {
  float norm;     // at least ‖s q_a‖ over the k's that are not taken singly
  float singles;  // at least 4 · 7.5 Σ |s q_a| over those that are
};

struct ScreenParams {
  const uint8_t* matrix;  // of Q8_0_split
  int64_t n, k;
  int64_t panel_begin, panel_end;
  const void* x;                // [k / 32] activation blocks of 16 or 8 bits, as the set's quantiser makes them
  const ScreenedBlock* blocks;  // [k / 32]
  ScreenedPanel* out;           // [panel_count(n)], of which those of the range are written
};

constexpr float screen_slack(int64_t k) { return 0.25f + static_cast<float>(k / kBlock + 8) * 0x1p-17f; }

using ScreenFunction = void (*)(const ScreenParams&);
KVASS_DECLARE_KERNEL(ScreenFunction, screen_a8)
KVASS_DECLARE_KERNEL(ScreenFunction, screen_a16)

}  // namespace kvass
