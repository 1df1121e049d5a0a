// Activations to 8 or 16 bits (NUMERICS rule 5) over a lane set V of 16 lanes: see linear.h for the blocks. Included by the
// units of one instruction set only. No state.
#pragma once

#include "kernels/linear/linear.h"

namespace kvass {

// q [32] in index order, narrowed to where and how Block has it, with its sums.
KVASS_INLINE void fill_block(const int32_t* q, ActivationBlock8& block) {
  int32_t pairs[2][2] = {};  // [half][pair]
  for (int half = 0; half < 2; ++half) {
    for (int g = half * 16; g < half * 16 + 16; g += 4) {
      pairs[half][0] += q[g] + q[g + 1];
      pairs[half][1] += q[g + 2] + q[g + 3];
    }
  }
  for (int i = 0; i < kBlock; ++i) block.q[i] = static_cast<int8_t>(q[i]);
  for (int pair = 0; pair < 2; ++pair) {
    block.negated_pair_sums[0][pair] = static_cast<int16_t>(-(pairs[0][pair] + pairs[1][pair]));
    block.negated_pair_sums[1][pair] = static_cast<int16_t>(-pairs[0][pair]);
    block.negated_pair_sums[2][pair] = static_cast<int16_t>(-pairs[1][pair]);
  }
  block.sum = static_cast<float>(pairs[0][0] + pairs[0][1] + pairs[1][0] + pairs[1][1]);
}

KVASS_INLINE void fill_block(const int32_t* q, ActivationBlock16& block) {
  int32_t halves[2] = {};
  for (int i = 0; i < 16; ++i) {
    halves[0] += q[i];
    halves[1] += q[16 + i];
  }
  for (int g = 0; g < kBlock; g += 4) {
    block.q[g] = static_cast<int16_t>(q[g]);
    block.q[g + 1] = static_cast<int16_t>(q[g + 2]);
    block.q[g + 2] = static_cast<int16_t>(q[g + 1]);
    block.q[g + 3] = static_cast<int16_t>(q[g + 3]);
  }
  block.negated_sums[0] = -(halves[0] + halves[1]);
  block.negated_sums[1] = -halves[0];
  block.negated_sums[2] = -halves[1];
  block.sum = static_cast<float>(halves[0] + halves[1]);
}

template <class V, class Block>
static void quantise_rows(const QuantiseParams& p) {
  using F = typename V::F;
  const float qmax = sizeof(Block::q) == kBlock ? kQmax8 : kQmax16;
  Block* out = static_cast<Block*>(p.activations);
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t k = 0; k < p.k; k += kBlock, ++out) {
      alignas(64) float padded[kBlock];
      const float* x = p.x + row * p.x_stride + k;
      if (p.k - k < kBlock) {
        for (int i = 0; i < kBlock; ++i) padded[i] = k + i < p.k ? x[i] : 0.0f;
        x = padded;
      }
      const F lo = V::load(x);
      const F hi = V::load(x + 16);
      const float amax = V::reduce_max(V::max(V::abs(lo), V::abs(hi)));
      // x · 0 is 0 where x is finite and NaN elsewhere; reduce_max alone could lose a NaN.
      const float poison = V::reduce_add(V::fma(lo, V::zero(), V::mul(hi, V::zero())));
      alignas(64) int32_t q[kBlock] = {};
      out->scale = poison != 0.0f ? poison : amax < kAmaxFloor ? 0.0f : amax / qmax;
      if (out->scale > 0.0f) {
        const F inverse = V::set1(qmax / amax);
        V::storei(q, V::to_int(V::rint(V::mul(lo, inverse))));
        V::storei(q + 16, V::to_int(V::rint(V::mul(hi, inverse))));
      }
      fill_block(q, *out);
    }
  }
}

}  // namespace kvass
