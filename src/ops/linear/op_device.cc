#include "exec/device/op_view.h"
#include "ops/linear/device.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  LinearTarget targets[kMaxLinearWeights];
  const size_t count = op.op().weights.size();
  for (size_t i = 0; i < count; ++i) targets[i] = {op.matrix(i), op.out(i), op.width(i)};
  const int64_t width = op.input().width;
  return linear(op.in(), width, op.input_rows(), width, std::span(targets, count), op.math(), op.workspace(),
                op.kernels(), op.stream());
}

}  // namespace

constinit const DeviceOp device_op_linear = {run};

}  // namespace kvass
