// A method: the program planned for at most so many rows. A session has one or several (a long one for prompts, a short
// one for the token after the last); they run the same ops and differ in where values lie.
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
  int64_t sequences = 1;                // of a step
  int threads = 0;                      // that the workspaces are for
  std::vector<size_t> workspace_bytes;  // [ops]
  ArenaPlan arena;

  RowLimits limits() const { return {rows, head_rows, sequences}; }
};

// Proves a plan, whoever made it: sizes that add up, and check_arena. The program is one that verify_program takes.
Status check_method(const Program& program, const MethodPlan& method);

}  // namespace kvass
