// The largest of x Wᵀ in each row and its index, as `linear` and then `argmax` give it, to the bit. One row of a matrix
// that can be screened leaves most outputs out (argmax_linear.h); otherwise all of them go into the workspace.
#include <algorithm>

#include "exec/operators.h"
#include "kernels/argmax/device.h"
#include "ops/argmax_linear/argmax_linear.h"
#include "ops/argmax_linear/workspace.h"
#include "program/op_check.h"

namespace kvass {
namespace {

static_assert(sizeof(Argmax) == kArgmaxFloats * sizeof(float));

Status check(const OpCheck& op) {
  KVASS_RETURN_IF_ERROR(op.width("input", op.weight(0).inputs, op.in(0).width));
  return op.width("output", kArgmaxFloats, op.out(0).width);
}

size_t workspace(const OpPlan& op) {
  const Weight& weight = op.weight();
  return ArgmaxLinearWorkspace(math_of(op.math, op.input()), op.most_rows(op.input()), weight.outputs, weight.inputs)
      .bytes;
}

void run(const OpView& op) {
  const PackedWeight& matrix = op.matrix();
  const Math math = op.math();
  const int64_t rows = op.rows();
  const ArgmaxLinearWorkspace places(math, rows, matrix.n, matrix.k);
  uint8_t* memory = static_cast<uint8_t*>(op.workspace());
  float* y = reinterpret_cast<float*>(memory + places.outputs);
  Argmax* out = reinterpret_cast<Argmax*>(op.out());
  if (rows == 1 && math != Math::f32 && matrix.type == WeightType::Q8_0_split) {
    *out = argmax_linear(op.in(), matrix, math, y, memory, memory + places.scratch, op.pool(), op.isa());
    return;
  }
  const LinearTarget target{matrix, y, matrix.n};
  linear(op.in(), matrix.k, rows, matrix.k, std::span(&target, 1), math, memory, op.pool(), op.isa());
  const ArgmaxKernel kernel = argmax_for(op.isa());
  op.pool().run(rows, [&](int64_t row, int) { out[row] = kernel(y + row * matrix.n, matrix.n); });
}

}  // namespace

constinit const OpSpec op_spec_argmax_linear = {
    .weights = 1,
    .weight_form = WeightForm::matrix,
    .input_rows = set_of(Extent::head),
    .places = set_of(Place::head),
    .check = check,
    .example = {.inputs = {64}, .outputs = {kArgmaxFloats}, .weights = {{{40, 64}}}}};
constinit const CpuOp cpu_op_argmax_linear = {run, workspace};

}  // namespace kvass
