// Rotates q and attends over the cache of a state (attention.h), as an operator of programs.
#include "exec/operators.h"
#include "ops/attention/attention.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  KVASS_RETURN_IF_ERROR(op.heads(op.state().kv_heads));
  return op.width("q", op.op().heads * op.state().head_dim, op.in(0).width);
}

size_t workspace(const OpPlan& op) {
  const CacheState& state = op.program.states[static_cast<size_t>(op.op.state)];
  return attention_scratch_bytes(op.limits.chunk, op.op.heads, state.kv_heads, state.head_dim, op.threads);
}

void run(const OpView& op) {
  Frame& frame = op.frame();
  const Frame::Angles& angles = frame.angles(op.op().state);
  AttentionArgs args;
  args.q = op.all_in();
  args.q_stride = op.input().width;
  args.out = op.all_out();
  args.out_stride = op.width();
  args.heads = op.op().heads;
  args.interleaved = op.interleaved();
  args.shape = frame.shape(op.op().state);
  args.scale = op.op().scale;
  args.softcap = op.op().cap;
  args.cos = angles.cos;
  args.sin = angles.sin;
  if (angles.two_queries) {
    args.sink_cos = angles.sink_cos;
    args.sink_sin = angles.sink_sin;
  }
  args.runs = frame.attention_runs(op.op().state);
  attention(args, op.workspace(), op.pool(), op.isa());
}

}  // namespace

constinit const OpSpec op_spec_attention = {
    .input_rows = set_of(Extent::chunk),
    .same_width = true,
    .places = set_of(Place::body, Place::one_sequence),
    .state = Access::reads,
    .check = check,
    .example = {.inputs = {64}, .outputs = {64}, .heads = 4, .scale = 0.25f, .cap = 20.0f}};
constinit const CpuOp cpu_op_attention = {run, workspace};

}  // namespace kvass
