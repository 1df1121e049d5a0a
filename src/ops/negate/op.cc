// out = −x
#include "exec/operators.h"

namespace kvass {
namespace {

void run(const OpView& op) {
  const int64_t width = op.width();
  op.for_rows([&](int64_t first, int64_t count) {
    for (int64_t i = first * width; i < (first + count) * width; ++i) op.out()[i] = -op.in()[i];
  });
}

}  // namespace

constinit const OpSpec op_spec_negate = {
    .same_width = true, .in_place = true, .example = {.inputs = {40}, .outputs = {40}}};
constinit const CpuOp cpu_op_negate = {run};

}  // namespace kvass
