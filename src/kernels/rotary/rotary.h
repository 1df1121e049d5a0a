// Rotary angles without error growth (docs/numerics.md, 4). The angle of pair i at a position is counted in turns as a
// 64-bit fixed-point fraction: turns[i] = f_i / 2π · 2^64 with the frequency f_i of base/rotary_params.h, computed once
// in double-double and rounded to nearest; angle = position · turns[i] mod 2^64, which is exact at any int64 position,
// negative ones included. The kernels that apply the angles are in rotate_row.h.
#pragma once

#include <cstdint>
#include <vector>

#include "base/rotary_params.h"
#include "kvass/status.h"

namespace kvass {

struct Rotary {
  int64_t head_dim = 0;         // elements of a head, even
  double amplitude = 1.0;       // of cos and sin
  std::vector<uint64_t> turns;  // [head_dim / 2] fraction of a turn a position, 2^64 = one turn; error < 2^-64 turns
};

// base in [1, 1e30], above 1 with YaRN; factor in [1e-3, 1e9]; divisors in [0.1, 1e9]; attention_factor in
// [1e-3, 1e3]. The turns are those of the params to the last bit, the amplitude has an error below 2^-52.
Result<Rotary> make_rotary(const RotaryParams& params);

// amplitude · cos and amplitude · sin, [head_dim / 2] each, of every pair's angle at `position`: float32, rounded from
// a double whose error is below 2^-51 (relative to the amplitude), so correctly rounded but for about one value in
// 2^26; where the amplitude is 1, exact at multiples of a quarter turn.
void fill_rotary_row(const Rotary& rotary, int64_t position, float* cos, float* sin);

// cos and sin of one angle in 2^-64 turns, amplitude 1.
void cos_sin_turns(uint64_t turns, float* cos, float* sin);

}  // namespace kvass
