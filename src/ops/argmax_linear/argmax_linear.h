// The largest output of a linear operator for one row, without most of the outputs: a matrix of type Q8_0_split is
// screened by half of its bytes (kernels/linear/screen.h), and only panels that can hold the largest output are
// computed, as `linear` computes them. The result is kernels/argmax of `linear`, to the bit.
#pragma once

#include "kernels/argmax/argmax.h"
#include "ops/linear/linear.h"

namespace kvass {

// Scratch for a matrix of [n][k], beside the activations. A multiple of 64.
size_t screen_bytes(int64_t n, int64_t k);

// x [k]; `weight` is of type Q8_0_split; `math` a16 or a8. y [n] holds the outputs that were computed, elsewhere what
// it held. activation_scratch has activation_bytes(math, 1, k), scratch screen_bytes(n, k), both 4-byte aligned.
// Nothing overlaps.
Argmax argmax_linear(const float* x, const PackedWeight& weight, Math math, float* y, void* activation_scratch,
                     void* scratch, ThreadPool& threads, Isa isa);

}  // namespace kvass
