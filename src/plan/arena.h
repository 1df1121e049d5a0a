// Places the values of a program in one arena by their lifetimes. Pure integers: nothing is allocated, nothing is run.
//
// A value lives from the op that writes it to the last op that reads it, and to the end where another method or the
// caller reads it; an op's workspace lives for that op alone. Values whose lifetimes meet never share bytes, except
// that an op which may work in place writes over an input that ends with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvass/status.h"
#include "program/program.h"

namespace kvass {

inline constexpr size_t kArenaAlignment = 64;  // bytes: one cache line, one 512-bit vector

struct ArenaPlan {
  std::vector<size_t> values;     // [values] offset in bytes
  std::vector<size_t> workspace;  // [ops] offset in bytes
  size_t bytes = 0;               // of the arena
  size_t sum_bytes = 0;           // what the same buffers would take side by side
  size_t bound_bytes = 0;         // the most that is live at one op: no plan can be smaller
};

// `rows` and `head_rows` are the most rows a step may bring and may ask logits for; `workspace_bytes` is per op.
Result<ArenaPlan> plan_arena(const Program& program, int64_t rows, int64_t head_rows,
                             std::span<const size_t> workspace_bytes);

}  // namespace kvass
