// Rotary angles whose error does not grow with the position (docs/numerics.md, 4). The angle of pair i is a fraction of
// a turn in 64-bit fixed point: turns[i] = f_i / 2π · 2^64 with the frequency f_i of base/rotary_params.h, computed
// once in double-double and rounded to nearest. angle = position · turns[i] mod 2^64 is exact at any int64 position,
// negative ones included. The kernels that apply the angles are in rotate_row.h.
#pragma once

#include <cstdint>
#include <vector>

#include "base/rotary_params.h"
#include "kvass/status.h"

namespace kvass {

struct Rotary {
  int64_t head_dim = 0;         // elements of a head, even
  double amplitude = 1.0;       // factor of cos and sin
  std::vector<uint64_t> turns;  // [head_dim / 2] turns per position, 2^64 = one turn; error < 2^-64 turns
};

// base in [1, 1e30], above 1 with YaRN; factor in [1e-3, 1e9]; divisors in [0.1, 1e9]; attention_factor in
// [1e-3, 1e3]. The turns are correctly rounded; the amplitude has an error below 2^-52.
Result<Rotary> make_rotary(const RotaryParams& params);

// amplitude · cos and amplitude · sin of every pair's angle at `position`, [head_dim / 2] each: float32, rounded from a
// double whose error is below 2^-51 (relative to the amplitude). So all but about one value in 2^26 are correctly
// rounded. With amplitude 1, multiples of a quarter turn are exact.
void fill_rotary_row(const Rotary& rotary, int64_t position, float* cos, float* sin);

// cos and sin of one angle, given in units of 2^-64 turns; amplitude 1.
void cos_sin_turns(uint64_t turns, float* cos, float* sin);

}  // namespace kvass
