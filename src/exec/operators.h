// How the operators of programs run on the CPU: each defines `cpu_op_<name>` in its folder (src/ops/<name>/op.cc), and
// cpu_op(kind) finds it through program/ops.inc. What an operator is stands in program/op_spec.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "exec/op_view.h"
#include "plan/arena.h"
#include "program/op_spec.h"

namespace kvass {

// An op that is being planned, for its workspace.
struct OpPlan {
  const Program& program;
  const Op& op;
  Math math;
  RowLimits limits;
  int threads;

  const Value& input(size_t i = 0) const { return program.values[static_cast<size_t>(op.inputs[i])]; }
  const Value& output(size_t i = 0) const { return program.values[static_cast<size_t>(op.outputs[i])]; }
  const Weight& weight(size_t i = 0) const { return program.weights[static_cast<size_t>(op.weights[i])]; }
  int64_t most_rows(const Value& value) const { return limits.of(program, value.extent); }
};

struct CpuOp {
  void (*run)(const OpView&) = nullptr;          // null: nothing is done; it only makes views, or is a cond
  size_t (*workspace)(const OpPlan&) = nullptr;  // bytes of scratch, on every backend; null: none
};

const CpuOp& cpu_op(OpKind kind);
size_t workspace_bytes(const OpPlan& plan);

#define KVASS_OP(name, where, text)   \
  extern const OpSpec op_spec_##name; \
  extern const CpuOp cpu_op_##name;
#include "program/ops.inc"
#undef KVASS_OP

}  // namespace kvass
