#include "exec/device/op_view.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  return op.kernels().softcap({op.in(), op.out(), op.rows() * op.width(), op.op().cap}, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_softcap = {run};

}  // namespace kvass
