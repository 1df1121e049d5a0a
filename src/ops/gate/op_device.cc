#include "exec/device/op_view.h"

namespace kvass {
namespace {

template <auto kernel>
Status run(const DeviceOpView& op) {
  return (op.kernels().*kernel)({op.in(0), op.in(1), op.out(), op.rows() * op.width()}, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_gelu_gate = {run<&DeviceKernels::gelu_gate>};
constinit const DeviceOp device_op_silu_gate = {run<&DeviceKernels::silu_gate>};

}  // namespace kvass
