// out = activation(gate) * up, for each activation that models have.
#include "exec/operators.h"
#include "kernels/gate/gate.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("second input", op.in(0).width, op.in(1).width); }

constexpr OpSpec kGate = {.inputs = 2,
                          .same_width = true,
                          .in_place = true,
                          .check = check,
                          .example = {.inputs = {40, 40}, .outputs = {40}}};

template <auto kernel_for>
void run(const OpView& op) {
  const int64_t width = op.width();
  const auto kernel = kernel_for(op.isa());
  op.for_rows([&](int64_t first, int64_t count) {
    kernel(op.in(0) + first * width, op.in(1) + first * width, op.out() + first * width, count * width);
  });
}

}  // namespace

constinit const OpSpec op_spec_gelu_gate = kGate;
constinit const OpSpec op_spec_silu_gate = kGate;
constinit const CpuOp cpu_op_gelu_gate = {run<gelu_gate_for>};
constinit const CpuOp cpu_op_silu_gate = {run<silu_gate_for>};

}  // namespace kvass
