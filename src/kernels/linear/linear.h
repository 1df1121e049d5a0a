// y = x Wᵀ for packed weights (panel_format.h): the kernels under ops/linear. They trust their arguments, own nothing,
// and know neither threads nor models. Each call computes rows [0, rows) of the outputs in panels [panel_begin,
// panel_end).
//
// Quantised activations (docs/numerics.md, 5), a block b of 32 k's at a time:
//     I    = Σ q_w · q_a                                  exact in int32
//     acc  = fma(float(I), (d·sc) · s, acc)               two of these where a weight scale covers 16 k's
//     acc  = fma(float(Σ q_a), −((dmin·m) · s), acc)      types with a minimum; Q4_1, Q5_1: dmin·m stands for −m
// Where the minima cover 16 k's, too, the terms of each half follow each other, with the half's Σ q_a.
// Float activations (docs/numerics.md, 2): w = the dequantised weight, acc = fma(x[k], w[k], acc), k ascending from +0.
// A row's result depends on that row alone.
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"
#include "kernels/linear/panel_format.h"

namespace kvass {

// One block of a row of quantised activations, as the reference and most instruction sets have it; a set may arrange
// its numbers in another way in as many bytes (byte_blocks.h), which only its own kernels read. The sums are stored
// negated, in the forms in which the kernels add a weight's offset back: of the whole block, of its first 16 k's and of
// its last 16.
struct ActivationBlock8 {
  int8_t q[kBlock];                 // k ascending
  float scale;                      // s; NaN where an input of the block is not finite
  float sum;                        // Σ q, exact
  int16_t negated_pair_sums[3][2];  // −Σ over groups of q0 + q1, and of q2 + q3 (a group is four k's: q0 … q3)
};
struct ActivationBlock16 {
  int16_t
      q[kBlock];  // each group of four as q0, q2, q1, q3: what byte pairs of weights turn into when masked to 16 bits
  float scale;
  float sum;
  int32_t negated_sums[3];  // −Σ q
};
static_assert(sizeof(ActivationBlock8) == 52 && sizeof(ActivationBlock16) == 84);

// Σ q, exact: of the whole block (part 0), of its first 16 k's (1) or of its last 16 (2).
KVASS_PANEL_INLINE float part_sum(const ActivationBlock8& block, int part) {
  if (part == 0) return block.sum;
  return static_cast<float>(-(block.negated_pair_sums[part][0] + block.negated_pair_sums[part][1]));
}
KVASS_PANEL_INLINE float part_sum(const ActivationBlock16& block, int part) {
  return part == 0 ? block.sum : static_cast<float>(-block.negated_sums[part]);
}

inline constexpr float kQmax8 = 127.0f;
inline constexpr float kQmax16 = 32639.0f;
inline constexpr float kAmaxFloor = 0x1p-100f;  // blocks below are zero

KVASS_PANEL_INLINE constexpr int64_t activation_blocks(int64_t k) { return (k + kBlock - 1) / kBlock; }

struct QuantiseParams {
  const float* x;  // [rows][k], rows x_stride floats apart
  int64_t x_stride;
  int64_t rows, k;
  void* activations;  // [rows][activation_blocks(k)] of the set's blocks of 8 or 16 bits, without gaps
};

struct LinearParams {
  WeightType type;
  const uint8_t* matrix;  // as panel_at reads it, 64-byte aligned
  int64_t n, k;
  int64_t panel_begin, panel_end;
  const void* x;     // row 0: float [rows][k], or the activation blocks [rows][k / 32]
  int64_t x_stride;  // between rows: floats, or activation blocks
  int64_t rows;
  float* y;  // [rows][n], rows y_stride floats apart
  int64_t y_stride;
};

// Panel `index`, for the kernel of the types like kType (kernel_type).
template <WeightType kType>
KVASS_PANEL_INLINE PanelParts panel_of(const LinearParams& p, int64_t index) {
  PanelParts panel = panel_at(kType, p.matrix, p.n, p.k, index);
  if constexpr (panel_format(kType).has_values) panel.values = panel_values(p.type);
  return panel;
}

using QuantiseFunction = void (*)(const QuantiseParams&);
using LinearFunction = void (*)(const LinearParams&);

KVASS_DECLARE_KERNEL(QuantiseFunction, quantise_a8)
KVASS_DECLARE_KERNEL(QuantiseFunction, quantise_a16)
KVASS_DECLARE_KERNEL(LinearFunction, linear_f32)  // every type
KVASS_DECLARE_KERNEL(LinearFunction, linear_a8)   // quantised types
KVASS_DECLARE_KERNEL(LinearFunction, linear_a16)  // quantised types

KVASS_DECLARE_UNIT(dotprod, LinearFunction, linear_a8)
KVASS_DECLARE_UNIT(dotprod, LinearFunction, linear_a16)
KVASS_DECLARE_UNIT(i8mm, LinearFunction, linear_a8)
KVASS_DECLARE_UNIT(i8mm, LinearFunction, linear_a16)

}  // namespace kvass
