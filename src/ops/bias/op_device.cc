#include "exec/device/op_view.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  return op.kernels().bias({op.in(), op.vector(), op.out(), op.rows(), op.width()}, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_bias = {run};

}  // namespace kvass
