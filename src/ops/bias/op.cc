// out = x + a vector, the same for every row
#include "exec/operators.h"
#include "kernels/elementwise/elementwise.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("input", op.weight(0).inputs, op.in(0).width); }

void run(const OpView& op) {
  const int64_t width = op.width();
  const auto kernel = add_for(op.isa());
  op.for_rows([&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) {
      kernel(op.in() + row * width, op.vector(), op.out() + row * width, width);
    }
  });
}

}  // namespace

constinit const OpSpec op_spec_bias = {.weights = 1,
                                       .same_width = true,
                                       .in_place = true,
                                       .check = check,
                                       .example = {.inputs = {40}, .outputs = {40}, .weights = {{{0, 40}}}}};
constinit const CpuOp cpu_op_bias = {run};

}  // namespace kvass
