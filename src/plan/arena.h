// Places the values of a program in one arena by their lifetimes. Pure integers: nothing is allocated, nothing is run.
//
// A value lives from the op that writes it to the last op that reads it, and to the end where another method or the
// caller reads it; an op's workspace lives for that op alone. Values whose lifetimes meet never share bytes, except
// that an op which may work in place writes over an input that ends with it. A branch of a cond runs once for each
// sequence: what it reads from outside lives to the end of the cond, its results lie where the cond's outputs do, and
// what lives inside one branch only may share bytes with the other. Views have no bytes.
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
  std::vector<size_t> values;     // [values] offset in bytes; of a view: nothing
  std::vector<size_t> workspace;  // [ops] offset in bytes
  size_t bytes = 0;               // of the arena
  size_t sum_bytes = 0;           // what the same buffers would take side by side
  size_t bound_bytes = 0;         // the most that is live at one op: no plan can be smaller
};

// The most rows that a value of each extent can have. What the encoder takes and leaves is the program's own.
struct RowLimits {
  int64_t chunk = 1;  // rows of a step
  int64_t head = 1;   // rows whose logits are asked for
  int64_t sequences = 1;

  int64_t of(const Program& program, Extent extent) const;
};

// `workspace_bytes` is per op.
Result<ArenaPlan> plan_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes);

// sum_bytes and bound_bytes of a plan that does not say them.
Status measure_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes,
                     ArenaPlan& plan);

// Whether a plan, wherever it comes from, keeps everything that lives at the same time apart, by the rules above, and
// inside its bytes.
Status check_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes,
                   const ArenaPlan& plan);

}  // namespace kvass
