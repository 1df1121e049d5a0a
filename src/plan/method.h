// The plan of a method: the program planned for a largest number of rows. A session has one or several (a long one for
// prompts, a short one for decoding). They run the same ops and differ in the places of the values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvass/status.h"
#include "plan/arena.h"
#include "program/program.h"

namespace kvass {

struct MethodPlan {
  std::string name;  // "forward", "prefill", "decode"
  int64_t rows = 0;
  int64_t head_rows = 0;
  int64_t sequences = 1;                // in a step
  int threads = 0;                      // number of threads for which the workspaces are sized
  std::vector<size_t> workspace_bytes;  // [ops]
  ArenaPlan arena;

  RowLimits limits() const { return {rows, head_rows, sequences}; }
};

// Checks a plan from any source: its sizes must be consistent and pass check_arena. The program must have passed
// verify_program.
Status check_method(const Program& program, const MethodPlan& method);

}  // namespace kvass
