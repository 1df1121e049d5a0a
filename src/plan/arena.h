// Places the values of a program in one arena by their lifetimes. Only integers are computed: nothing is allocated or
// run.
//
// A value lives from the op that writes it to the last op that reads it. If another part or the caller reads it, it
// lives to the end of the program. An op's workspace lives for that op alone. Values whose lifetimes overlap never
// share bytes, with one exception: an op that may work in place writes over its first input if that input ends with the
// op. A branch of a cond runs once for each sequence: values it reads from outside live to the end of the cond, its
// results lie where the cond's outputs do, and values inside one branch may share bytes with the other branch. Views
// have no bytes.
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
  std::vector<size_t> values;     // [values] offset in bytes; meaningless for a view
  std::vector<size_t> workspace;  // [ops] offset in bytes
  size_t bytes = 0;               // size of the arena
  size_t sum_bytes = 0;           // size of all buffers without sharing
  size_t bound_bytes = 0;         // largest number of bytes live at one op: no plan can be smaller
};

// The largest number of rows of a value of each extent. The encoder's input and output rows are fixed by the program.
struct RowLimits {
  int64_t chunk = 1;  // rows of a step
  int64_t head = 1;   // rows whose logits are computed
  int64_t sequences = 1;

  int64_t of(const Program& program, Extent extent) const;
};

// `workspace_bytes` is per op.
Result<ArenaPlan> plan_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes);

// Computes sum_bytes and bound_bytes of a plan.
Status measure_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes,
                     ArenaPlan& plan);

// Checks a plan from any source: by the rules above, buffers that live at the same time do not overlap, and all lie
// inside `bytes`.
Status check_arena(const Program& program, const RowLimits& rows, std::span<const size_t> workspace_bytes,
                   const ArenaPlan& plan);

}  // namespace kvass
