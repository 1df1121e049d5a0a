#include "exec/device/op_view.h"

namespace kvass {

const DeviceOp* device_op(OpKind kind) {
  static constexpr const DeviceOp* kOps[] = {
#define KVASS_DEVICE_OP_cpu(name) nullptr
#define KVASS_DEVICE_OP_devices(name) &device_op_##name
#define KVASS_OP(name, where, text) KVASS_DEVICE_OP_##where(name),
#include "program/ops.inc"
#undef KVASS_OP
#undef KVASS_DEVICE_OP_devices
#undef KVASS_DEVICE_OP_cpu
  };
  return kOps[static_cast<size_t>(kind)];
}

}  // namespace kvass
