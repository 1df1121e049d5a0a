// A convolution over rows, three wide with zeros at the ends, of stride 1 or 2. The weight is [outputs][3 · width].
//
// A row of the result takes three rows of x, which lie one after the other: a row of 3 · width with a stride. Only at
// the ends a row is missing; those are put together in the workspace.
#include <algorithm>

#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

constexpr int64_t kFloatsAligned = kArenaAlignment / sizeof(float);
int64_t aligned_floats(int64_t floats) { return (floats + kFloatsAligned - 1) / kFloatsAligned * kFloatsAligned; }

Status check(const OpCheck& op) {
  const int64_t stride = op.op().stride;
  if (stride != 1 && stride != 2) return op.fail("stride", "1 or 2", std::to_string(stride));
  const Extent from = stride == 1 ? op.out(0).extent : Extent::frames;
  const Extent to = stride == 1 ? op.out(0).extent : Extent::source;
  if (op.in(0).extent != from || op.out(0).extent != to) {
    return op.fail("rows", stride == 1 ? "as many as it takes" : "of the source, from those of the encoder's input",
                   std::string(extent_name(op.in(0).extent)) + " to " + std::string(extent_name(op.out(0).extent)));
  }
  KVASS_RETURN_IF_ERROR(op.width("input", op.weight(0).inputs, 3 * op.in(0).width));
  return op.width("output", op.weight(0).outputs, op.out(0).width);
}

size_t workspace(const OpPlan& op) {  // [2][3 · width], then what `linear` needs
  const Value& x = op.input();
  return static_cast<size_t>(aligned_floats(6 * x.width)) * sizeof(float) +
         activation_bytes(math_of(op.math, x), op.most_rows(op.output()), 3 * x.width);
}

// Row `row` of the result, whose three rows of x are not all there: [3 · width].
void put_together(const OpView& op, int64_t row, float* to) {
  const int64_t width = op.input().width;
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t from = row * op.op().stride - 1 + i;
    if (from < 0 || from >= op.input_rows()) {
      std::fill_n(to + i * width, width, 0.0f);
    } else {
      std::copy_n(op.in() + from * width, width, to + i * width);
    }
  }
}

void run(const OpView& op) {
  const int64_t width = op.input().width, outputs = op.width(), stride = op.op().stride;
  const int64_t count = op.rows();
  float* ends = static_cast<float*>(op.workspace());
  void* scratch = ends + aligned_floats(6 * width);
  const auto multiply = [&](const float* rows, int64_t rows_stride, int64_t rows_count, float* y) {
    const LinearTarget target{op.matrix(), y, outputs};
    linear(rows, rows_stride, rows_count, 3 * width, std::span(&target, 1), op.math(), scratch, op.pool(), op.isa());
  };
  const bool last_is_end = (count - 1) * stride + 1 >= op.input_rows();  // its third row is not there
  const int64_t inner_end = last_is_end ? count - 1 : count;
  put_together(op, 0, ends);
  multiply(ends, 3 * width, 1, op.out());
  if (count == 1) return;
  if (inner_end > 1) {
    multiply(op.in() + (stride - 1) * width, stride * width, inner_end - 1, op.out() + outputs);
  }
  if (!last_is_end) return;
  put_together(op, count - 1, ends);
  multiply(ends, 3 * width, 1, op.out() + (count - 1) * outputs);
}

}  // namespace

constinit const OpSpec op_spec_conv1d = {
    .weights = 1,
    .weight_form = WeightForm::matrix,
    .input_rows = set_of(Extent::frames, Extent::source),
    .output_rows = set_of(Extent::frames, Extent::source),
    .places = set_of(Place::encode),
    .check = check,
    .example = {.inputs = {32}, .outputs = {20}, .weights = {{{20, 96}}}, .stride = 1}};
constinit const CpuOp cpu_op_conv1d = {run, workspace};

}  // namespace kvass
