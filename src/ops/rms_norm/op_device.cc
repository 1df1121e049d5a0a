#include "exec/device/op_view.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  const int64_t heads = op.op().heads;
  const int64_t group = op.width() / heads;
  return op.kernels().rms_norm(
      {op.in(), op.vector(), op.out(), op.rows() * heads, group, group, group, op.op().epsilon}, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_rms_norm = {run};

}  // namespace kvass
