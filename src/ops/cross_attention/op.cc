// Attends over keys and values of a cross cache; the softmax weights of some heads are written where a step asks for
// them.
#include "exec/operators.h"
#include "ops/attention/weights.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  const int64_t width = op.cross().kv_heads * op.cross().head_dim;
  KVASS_RETURN_IF_ERROR(op.heads(op.cross().kv_heads));
  KVASS_RETURN_IF_ERROR(op.width("k", width, op.in(1).width));
  KVASS_RETURN_IF_ERROR(op.width("v", width, op.in(2).width));
  return op.width("q", op.op().heads * op.cross().head_dim, op.in(0).width);
}

size_t workspace(const OpPlan& op) {
  const CrossState& cross = op.program.crosses[static_cast<size_t>(op.op.cross)];
  return attention_scratch_bytes(op.limits.chunk, op.op.heads, cross.kv_heads, cross.head_dim, op.threads);
}

void run(const OpView& op) {
  Frame& frame = op.frame();
  AttentionArgs args;
  args.q = op.all_in();
  args.q_stride = op.input().width;
  args.out = op.all_out();
  args.out_stride = op.width();
  args.heads = op.op().heads;
  args.shape = frame.cross(frame.active().first_run, op.op().cross).shape;
  args.scale = op.op().scale;
  args.runs = frame.cross_runs(op.op().cross);
  attention(args, op.workspace(), op.pool(), op.isa());
  const CrossWeights& wanted = op.cross_weights();
  const int64_t stride = op.program().source.rows;
  for (size_t i = 0; i < wanted.heads.size(); ++i) {
    if (wanted.heads[i].cross != op.op().cross) continue;
    attention_weights(args, wanted.heads[i].head, wanted.out + static_cast<int64_t>(i) * op.most_rows() * stride,
                      stride, op.pool());
  }
}

}  // namespace

constinit const OpSpec op_spec_cross_attention = {
    .inputs = 3,
    .input_rows = set_of(Extent::chunk),
    .same_width = true,
    .input_views = {View::none, View::keys, View::values},
    .places = set_of(Place::body, Place::one_sequence),
    .cross = Access::reads,
    .has_cross_weights = true,
    .check = check,
    .example = {.inputs = {64, 32, 32}, .outputs = {64}, .heads = 4, .scale = 0.25f}};
constinit const CpuOp cpu_op_cross_attention = {run, workspace};

}  // namespace kvass
