// 1 for each sequence whose cross cache has been filled since its encode, otherwise 0.
#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("output", 1, op.out(0).width); }

void run(const OpView& op) {
  const Frame& frame = op.frame();
  const int64_t first = frame.first_of(Extent::sequence);
  for (int64_t i = 0; i < op.rows(); ++i) {
    op.out()[i] = frame.cross(first + i, op.op().cross).initialised ? 1.0f : 0.0f;
  }
}

}  // namespace

constinit const OpSpec op_spec_is_initialised = {.inputs = 0,
                                                 .output_rows = set_of(Extent::sequence),
                                                 .places = set_of(Place::body, Place::one_sequence),
                                                 .cross = Access::reads,
                                                 .check = check,
                                                 .example = {.outputs = {1}}};
constinit const CpuOp cpu_op_is_initialised = {run};

}  // namespace kvass
