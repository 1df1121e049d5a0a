// Keys and values of a cross cache, as views: nothing is done.
#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  const int64_t width = op.cross().kv_heads * op.cross().head_dim;
  KVASS_RETURN_IF_ERROR(op.width("k", width, op.out(0).width));
  return op.width("v", width, op.out(1).width);
}

}  // namespace

constinit const OpSpec op_spec_alias = {.inputs = 0,
                                        .outputs = 2,
                                        .output_rows = set_of(Extent::source),
                                        .output_views = {View::keys, View::values},
                                        .places = set_of(Place::body, Place::one_sequence),
                                        .cross = Access::reads,
                                        .check = check,
                                        .example = {.outputs = {32, 32}}};
constinit const CpuOp cpu_op_alias = {};

}  // namespace kvass
