// The linear operator: y = x Wᵀ for one or several packed weights that share their input, in the arithmetic of
// docs/numerics.md, 2 and 5. Not a matrix product of two activations (that is attention). Owns nothing and allocates
// nothing.
//
//     y [rows][n] = x [rows][k] · W [n][k]ᵀ
//
// Each output is one chain over k that depends on its own row alone: rows, blocks, threads and instruction sets change
// no bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "kvass/arithmetic.h"
#include "ops/linear/weight.h"

namespace kvass {

// Scratch for `linear`: the quantised rows. 0 for f32. A multiple of 64.
size_t activation_bytes(Math math, int64_t rows, int64_t k);

struct LinearTarget {
  PackedWeight weight;  // [n][k], k as in the call
  float* y;             // [rows][n], rows y_stride floats apart
  int64_t y_stride;
};

// x [rows][k], rows x_stride floats apart; rows may be 0. x is quantised once, then all targets are computed in one
// fork-join. `activation_scratch` has activation_bytes(math, rows, k), 4-byte aligned. No y may overlap x, the scratch
// or another y.
void linear(const float* x, int64_t x_stride, int64_t rows, int64_t k, std::span<const LinearTarget> targets, Math math,
            void* activation_scratch, ThreadPool& threads, Isa isa);

}  // namespace kvass
