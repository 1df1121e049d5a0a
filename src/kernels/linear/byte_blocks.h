// Blocks of quantised activations as planes of signed bytes, for byte_tiles.h: another arrangement of the numbers of
// ActivationBlock8 and ActivationBlock16 (linear.h), of the same size, made and read by the units of one instruction
// set.
#pragma once

#include "kernels/linear/linear.h"

namespace kvass {

template <int kPlaneCount>
struct ByteBlock {
  static constexpr int kPlanes = kPlaneCount;
  int8_t q[kPlanes][kBlock];  // k ascending; of two planes 256 · q[0] + q[1] is the value
  float scale;                // s; NaN where an input of the block is not finite
  float sum;                  // Σ q, exact
  int32_t negated_sums[3];    // −Σ q of the block, of its first 16 k's and of its last 16
};
template <int kPlaneCount>
KVASS_PANEL_INLINE float part_sum(const ByteBlock<kPlaneCount>& block, int part) {
  return part == 0 ? block.sum : static_cast<float>(-block.negated_sums[part]);
}
static_assert(sizeof(ByteBlock<1>) == sizeof(ActivationBlock8) && sizeof(ByteBlock<2>) == sizeof(ActivationBlock16));

}  // namespace kvass
