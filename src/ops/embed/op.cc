// The rows of a weight by token, times `scale`.
#include "exec/operators.h"
#include "kernels/elementwise/elementwise.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("output", op.weight(0).inputs, op.out(0).width); }

void run(const OpView& op) {
  const int64_t width = op.width();
  const int32_t* tokens = op.frame().tokens() + op.frame().first_of(Extent::chunk);
  const auto scale = scale_for(op.isa());
  op.for_rows([&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) {
      float* out = op.out() + row * width;
      unpack_row(op.matrix(), tokens[row], out);
      scale(out, op.op().scale, out, width);
    }
  });
}

}  // namespace

constinit const OpSpec op_spec_embed = {.inputs = 0,
                                        .weights = 1,
                                        .weight_form = WeightForm::matrix,
                                        .reads_single_rows = true,
                                        .output_rows = set_of(Extent::chunk),
                                        .check = check,
                                        .example = {.outputs = {64}, .weights = {{{40, 64}}}, .scale = 3.0f}};
constinit const CpuOp cpu_op_embed = {run};

}  // namespace kvass
