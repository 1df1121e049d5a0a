// y = x Wᵀ for one or more weights that share x (linear.h), as an operator of programs.
#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  for (size_t i = 0; i < op.op().weights.size(); ++i) {
    KVASS_RETURN_IF_ERROR(op.width("input", op.weight(i).inputs, op.in(0).width));
    KVASS_RETURN_IF_ERROR(op.width("output", op.weight(i).outputs, op.out(i).width));
  }
  return {};
}

size_t workspace(const OpPlan& op) {
  const Value& x = op.input();
  return activation_bytes(math_of(op.math, x), op.most_rows(x), x.width);
}

void run(const OpView& op) {
  LinearTarget targets[kMaxLinearWeights];
  const size_t count = op.op().weights.size();
  for (size_t i = 0; i < count; ++i) targets[i] = {op.matrix(i), op.out(i), op.width(i)};
  const int64_t width = op.input().width;
  linear(op.in(), width, op.input_rows(), width, std::span(targets, count), op.math(), op.workspace(), op.pool(),
         op.isa());
}

}  // namespace

constinit const OpSpec op_spec_linear = {
    .outputs = {1, kMaxLinearWeights},
    .weights = {1, kMaxLinearWeights},
    .output_per_weight = true,
    .weight_form = WeightForm::matrix,
    .check = check,
    .example = {.inputs = {64}, .outputs = {48, 20}, .weights = {{{48, 64}, {20, 64}}}}};
constinit const CpuOp cpu_op_linear = {run, workspace};

}  // namespace kvass
