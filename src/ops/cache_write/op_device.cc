#include "exec/device/op_view.h"

namespace kvass {
namespace {

Status run(const DeviceOpView& op) {
  const TileShape shape = op.frame().shape(op.op().state);
  DeviceCacheWriteParams params;
  params.k = op.in(0);
  params.v = op.in(1);
  params.cos = op.layer().cos;
  params.sin = op.layer().sin;
  params.interleaved = op.interleaved();
  params.dtype = shape.dtype;
  params.kv_heads = shape.kv_heads;
  params.head_dim = shape.head_dim;
  params.rows = op.tables().rows();
  params.runs = op.layer().write_runs;
  params.run_of = op.tables().run_of();
  return op.kernels().cache_write_rows(params, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_cache_write = {run};

}  // namespace kvass
