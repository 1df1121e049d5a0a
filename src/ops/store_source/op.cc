// Keeps the encoder's rows; what was made of earlier ones is forgotten (the session does that before an encode).
#include <cstring>

#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("input", op.program().source.width, op.in(0).width); }

void run(const OpView& op) {
  const size_t bytes = static_cast<size_t>(op.input_rows() * op.input().width) * sizeof(float);
  std::memcpy(op.frame().only_run().source, op.in(), bytes);
}

}  // namespace

constinit const OpSpec op_spec_store_source = {.outputs = 0,
                                               .input_rows = set_of(Extent::source),
                                               .places = set_of(Place::encode),
                                               .source = Access::writes,
                                               .check = check,
                                               .example = {.inputs = {32}}};
constinit const CpuOp cpu_op_store_source = {run};

}  // namespace kvass
