// out = (x − mean) / sqrt(variance + epsilon) · weight + bias, over the row
#include "exec/operators.h"
#include "kernels/layer_norm/layer_norm.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  KVASS_RETURN_IF_ERROR(op.width("input", op.weight(0).inputs, op.in(0).width));
  return op.width("input", op.weight(1).inputs, op.in(0).width);
}

void run(const OpView& op) {
  const int64_t width = op.width();
  const auto kernel = layer_norm_for(op.isa());
  op.for_rows([&](int64_t first, int64_t count) {
    kernel(
        {op.in() + first * width, op.vector(0), op.vector(1), op.out() + first * width, count, width, op.op().epsilon});
  });
}

}  // namespace

constinit const OpSpec op_spec_layer_norm = {
    .weights = 2,
    .same_width = true,
    .in_place = true,
    .check = check,
    .example = {.inputs = {48}, .outputs = {48}, .weights = {{{0, 48}, {0, 48}}}, .epsilon = 1e-5f}};
constinit const CpuOp cpu_op_layer_norm = {run};

}  // namespace kvass
