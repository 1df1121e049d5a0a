// out = x / sqrt(mean(x²) + epsilon) · weight, over the row, or over each of `heads` groups that share the weight
#include "exec/operators.h"
#include "kernels/rms_norm/rms_norm.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  const int64_t heads = op.op().heads;
  if (heads < 1 || heads > kMaxHeads) return op.fail("heads", "1 to 2^20", std::to_string(heads));
  return op.width("input", op.weight(0).inputs * heads, op.in(0).width);
}

void run(const OpView& op) {
  const int64_t width = op.width(), heads = op.op().heads;
  const int64_t group = width / heads;
  const auto kernel = rms_norm_for(op.isa());
  op.for_rows([&](int64_t first, int64_t count) {
    kernel({op.in() + first * width, op.vector(), op.out() + first * width, count * heads, group, group, group,
            op.op().epsilon});
  });
}

}  // namespace

constinit const OpSpec op_spec_rms_norm = {
    .weights = 1,
    .same_width = true,
    .in_place = true,
    .check = check,
    .example = {.inputs = {48}, .outputs = {48}, .weights = {{{0, 16}}}, .heads = 3, .epsilon = 1e-5f}};
constinit const CpuOp cpu_op_rms_norm = {run};

}  // namespace kvass
