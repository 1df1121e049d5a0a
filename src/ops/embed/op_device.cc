#include "exec/device/op_view.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  DeviceEmbedParams params;
  params.type = op.matrix().type;
  params.panels = op.matrix().data;
  params.k = op.matrix().k;
  params.ids = op.tables().tokens();
  params.rows = op.rows();
  params.factor = op.op().scale;
  params.y = op.out();
  return op.kernels().embed(params, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_embed = {run};

}  // namespace kvass
