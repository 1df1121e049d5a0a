// Runs the ops of a part in program order on a backend: the branches of conds, and what an observer watches.
#pragma once

#include <cstdint>
#include <vector>

#include "exec/backend.h"

namespace kvass {

class Interpreter {
 public:
  explicit Interpreter(const Program& program);  // outlives it

  // Stops where the pool is cancelled.
  void run(const Part& part, const ExecContext& context, ExecBackend& backend);

  Observer& observer() { return observer_; }
  const Observer& observer() const { return observer_; }

 private:
  void run_ops(int32_t begin, int32_t end, const ExecContext& context, ExecBackend& backend);
  void run_cond(const Op& op, const ExecContext& context, ExecBackend& backend);
  void show(const Op& op, const ExecContext& context, ExecBackend& backend);

  const Program& program_;
  std::vector<bool> one_sequence_;  // [branches] whether it runs for one sequence at a time
  Observer observer_;
};

}  // namespace kvass
