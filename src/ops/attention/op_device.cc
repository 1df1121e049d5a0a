#include "exec/device/op_view.h"

namespace kvass {
namespace {

size_t scratch(const Program& program, const Op& op, const DeviceScratch& step) {
  const CacheState& state = program.states[static_cast<size_t>(op.state)];
  return device_attention_scratch_bytes(step.rows, step.runs, op.heads, state.kv_heads, state.head_dim, step.spans,
                                        kPlannedProcessors);
}

Status run(const DeviceOpView& op) {
  const DeviceTables::Layer& layer = op.layer();
  const TileShape shape = op.frame().shape(op.op().state);
  DeviceAttentionParams params;
  params.q = {op.in(), DType::f32, 0, op.input().width, shape.head_dim, 1};
  params.out = {op.out(), DType::f32, 0, op.width(), shape.head_dim, 1};
  params.heads = op.op().heads;
  params.kv_heads = shape.kv_heads;
  params.head_dim = shape.head_dim;
  params.dtype = shape.dtype;
  params.scale = op.op().scale;
  params.softcap = op.op().cap;
  params.cos = layer.cos;
  params.sin = layer.sin;
  params.sink_cos = layer.sink_cos;
  params.sink_sin = layer.sink_sin;
  params.interleaved = op.interleaved();
  params.runs = layer.attention_runs;
  params.visible = layer.visible;
  params.run_count = op.tables().runs();
  params.most_rows = op.tables().most_rows();
  params.sink_spans = layer.sink_spans;
  params.body_spans = layer.body_spans;
  params.processors = kPlannedProcessors;
  params.scratch = op.scratch();
  return op.kernels().attention_exact(params, op.stream());
}

}  // namespace

constinit const DeviceOp device_op_attention = {run, scratch};

}  // namespace kvass
