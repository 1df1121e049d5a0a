// Rotates k and stores k and v at the rows' positions (cache_write.h), as an operator of programs.
#include "exec/operators.h"
#include "ops/cache_write/cache_write.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  const int64_t width = op.state().kv_heads * op.state().head_dim;
  KVASS_RETURN_IF_ERROR(op.width("k", width, op.in(0).width));
  return op.width("v", width, op.in(1).width);
}

void run(const OpView& op) {
  Frame& frame = op.frame();
  const Frame::Angles& angles = frame.angles(op.op().state);
  CacheWriteArgs args;
  args.k = op.all_in(0);
  args.v = op.all_in(1);
  args.cos = angles.cos;
  args.sin = angles.sin;
  args.interleaved = op.interleaved();
  args.shape = frame.shape(op.op().state);
  args.runs = frame.write_runs(op.op().state);
  cache_write(args, op.pool(), op.isa());
}

}  // namespace

constinit const OpSpec op_spec_cache_write = {.inputs = 2,
                                              .outputs = 0,
                                              .input_rows = set_of(Extent::chunk),
                                              .places = set_of(Place::body, Place::one_sequence),
                                              .state = Access::writes,
                                              .check = check,
                                              .example = {.inputs = {32, 32}}};
constinit const CpuOp cpu_op_cache_write = {run};

}  // namespace kvass
