#include "exec/device/op_view.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  DeviceArgmaxParams params;
  params.x = op.in();
  params.rows = op.rows();
  params.n = op.input().width;
  params.result = reinterpret_cast<Argmax*>(op.out());
  params.parts = static_cast<uint64_t*>(op.workspace());
  return op.kernels().argmax(params, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_argmax = {run};

}  // namespace kvass
