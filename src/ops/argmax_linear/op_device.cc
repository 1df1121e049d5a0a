#include "exec/device/op_view.h"
#include "ops/argmax_linear/workspace.h"
#include "ops/linear/device.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  const PackedWeight& matrix = op.matrix();
  const ArgmaxLinearWorkspace places(op.math(), op.rows(), matrix.n, matrix.k);
  uint8_t* memory = static_cast<uint8_t*>(op.workspace());
  float* y = reinterpret_cast<float*>(memory + places.outputs);
  const LinearTarget target{matrix, y, matrix.n};
  KVASS_RETURN_IF_ERROR(linear(op.in(), matrix.k, op.rows(), matrix.k, std::span(&target, 1), op.math(), memory,
                               op.kernels(), op.stream()));
  DeviceArgmaxParams params;
  params.x = y;
  params.rows = op.rows();
  params.n = matrix.n;
  params.result = reinterpret_cast<Argmax*>(op.out());
  params.parts = reinterpret_cast<uint64_t*>(memory + places.scratch);
  return op.kernels().argmax(params, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_argmax_linear = {run};

}  // namespace kvass
