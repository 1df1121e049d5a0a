#include "exec/device/op_view.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  return op.kernels().select_rows({op.in(), op.tables().selected(), op.out(), op.rows(), op.width()}, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_select_rows = {run};

}  // namespace kvass
