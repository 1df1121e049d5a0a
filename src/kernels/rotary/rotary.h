// Rotary angles without error growth (NUMERICS rule 4). The angle of pair i at a position is counted in turns as a
// 64-bit fixed-point fraction: turns[i] = base^(-2i / head_dim) / factor / 2π · 2^64, computed once in double-double
// and rounded to nearest; angle = position · turns[i] mod 2^64, which is exact at any int64 position, negative ones
// included. The kernel that applies the angles is rotate_row.h.
#pragma once

#include <cstdint>
#include <vector>

#include "kvass/status.h"

namespace kvass {

struct Rotary {
  int64_t head_dim = 0;         // elements of a head, even
  std::vector<uint64_t> turns;  // [head_dim / 2] fraction of a turn a position, 2^64 = one turn; error < 2^-64 turns
};

// `base` in [1, 1e30]; `factor` in [1e-3, 1e9] is linear scaling: positions are divided by it.
Result<Rotary> make_rotary(int64_t head_dim, double base, double factor = 1.0);

// cos and sin, [head_dim / 2] each, of every pair's angle at `position`: float32, rounded from a double whose error is
// below 2^-51, so correctly rounded but for about one value in 2^26; exact at multiples of a quarter turn.
void fill_rotary_row(const Rotary& rotary, int64_t position, float* cos, float* sin);

// The same for one angle in 2^-64 turns.
void cos_sin_turns(uint64_t turns, float* cos, float* sin);

}  // namespace kvass
