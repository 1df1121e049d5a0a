// The encoder's rows, as a view: nothing is done.
#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("output", op.program().source.width, op.out(0).width); }

}  // namespace

constinit const OpSpec op_spec_source = {.inputs = 0,
                                         .output_rows = set_of(Extent::source),
                                         .output_views = {View::source},
                                         .source = Access::reads,
                                         .check = check,
                                         .example = {.outputs = {32}}};
constinit const CpuOp cpu_op_source = {};

}  // namespace kvass
