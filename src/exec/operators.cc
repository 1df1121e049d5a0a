#include "exec/operators.h"

namespace kvass {

const CpuOp& cpu_op(OpKind kind) {
  static constexpr const CpuOp* kOps[] = {
#define KVASS_OP(name, where, text) &cpu_op_##name,
#include "program/ops.inc"
#undef KVASS_OP
  };
  return *kOps[static_cast<size_t>(kind)];
}

size_t workspace_bytes(const OpPlan& plan) {
  const CpuOp& op = cpu_op(plan.op.kind);
  return op.workspace ? op.workspace(plan) : 0;
}

}  // namespace kvass
