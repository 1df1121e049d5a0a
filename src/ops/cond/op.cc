// For each sequence, one of two branches (Branch in program/program.h); the interpreter runs them.
#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("predicate", 1, op.in(0).width); }

}  // namespace

constinit const OpSpec op_spec_cond = {.outputs = {0, SIZE_MAX},
                                       .branches = 2,
                                       .input_rows = set_of(Extent::sequence),
                                       .places = set_of(Place::body, Place::one_sequence),
                                       .check = check,
                                       .example = {.inputs = {1}}};
constinit const CpuOp cpu_op_cond = {};

}  // namespace kvass
