// The largest element of each row and its index (kernels/argmax): an Argmax a row, in the bytes of kArgmaxFloats
// floats.
#include "exec/operators.h"
#include "kernels/argmax/argmax.h"
#include "kernels/argmax/device.h"
#include "program/op_check.h"

namespace kvass {
namespace {

static_assert(sizeof(Argmax) == kArgmaxFloats * sizeof(float));

Status check(const OpCheck& op) { return op.width("output", kArgmaxFloats, op.out(0).width); }

size_t workspace(const OpPlan& op) {  // of a device
  return static_cast<size_t>(op.most_rows(op.input()) * kArgmaxParts) * sizeof(uint64_t);
}

void run(const OpView& op) {
  const int64_t width = op.input().width;
  Argmax* out = reinterpret_cast<Argmax*>(op.out());
  const ArgmaxKernel kernel = argmax_for(op.isa());
  op.pool().run(op.rows(), [&](int64_t row, int) { out[row] = kernel(op.in() + row * width, width); });
}

}  // namespace

constinit const OpSpec op_spec_argmax = {.input_rows = set_of(Extent::head),
                                         .places = set_of(Place::head),
                                         .check = check,
                                         .example = {.inputs = {40}, .outputs = {kArgmaxFloats}, .any_width = true}};
constinit const CpuOp cpu_op_argmax = {run, workspace};

}  // namespace kvass
