// out = a + b
#include "exec/operators.h"
#include "kernels/elementwise/elementwise.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("second input", op.in(0).width, op.in(1).width); }

void run(const OpView& op) {
  const int64_t width = op.width();
  const auto kernel = add_for(op.isa());
  op.for_rows([&](int64_t first, int64_t count) {
    kernel(op.in(0) + first * width, op.in(1) + first * width, op.out() + first * width, count * width);
  });
}

}  // namespace

constinit const OpSpec op_spec_add = {.inputs = 2,
                                      .same_width = true,
                                      .in_place = true,
                                      .check = check,
                                      .example = {.inputs = {40, 40}, .outputs = {40}}};
constinit const CpuOp cpu_op_add = {run};

}  // namespace kvass
