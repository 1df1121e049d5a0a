// Stores keys and values in a cross cache and sets its flag; views of them. An operator of programs: the one on tensors
// is in update_cross_attn_cache.cc.
#include "exec/operators.h"
#include "ops/cache_write/cache_write.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  const int64_t width = op.cross().kv_heads * op.cross().head_dim;
  KVASS_RETURN_IF_ERROR(op.width("input", width, op.in(0).width));
  KVASS_RETURN_IF_ERROR(op.width("input", width, op.in(1).width));
  KVASS_RETURN_IF_ERROR(op.width("k", width, op.out(0).width));
  return op.width("v", width, op.out(1).width);
}

void run(const OpView& op) {
  const Frame& frame = op.frame();
  CrossView& cross = frame.cross(frame.active().first_run, op.op().cross);
  CacheWriteArgs args;
  args.k = op.in(0);
  args.v = op.in(1);
  args.shape = cross.shape;
  const CacheWriteRun run{0, op.input_rows(), 0, {}, cross.segment};
  args.runs = std::span(&run, 1);
  cache_write(args, op.pool(), op.isa());
  cross.filled = op.input_rows();
  cross.initialised = true;
}

}  // namespace

constinit const OpSpec op_spec_update_cross_attn_cache = {.inputs = 2,
                                                          .outputs = 2,
                                                          .input_rows = set_of(Extent::source),
                                                          .output_views = {View::keys, View::values},
                                                          .places = set_of(Place::body, Place::one_sequence),
                                                          .cross = Access::writes,
                                                          .check = check,
                                                          .example = {.inputs = {32, 32}, .outputs = {32, 32}}};
constinit const CpuOp cpu_op_update_cross_attn_cache = {run};

}  // namespace kvass
