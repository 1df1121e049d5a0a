// out = cap · tanh(x / cap)
#include "exec/operators.h"
#include "kernels/elementwise/elementwise.h"

namespace kvass {
namespace {

void run(const OpView& op) {
  const int64_t width = op.width();
  const auto kernel = softcap_for(op.isa());
  op.for_rows([&](int64_t first, int64_t count) {
    kernel(op.in() + first * width, op.op().cap, op.out() + first * width, count * width);
  });
}

}  // namespace

constinit const OpSpec op_spec_softcap = {
    .same_width = true, .in_place = true, .example = {.inputs = {40}, .outputs = {40}, .cap = 3.0f}};
constinit const CpuOp cpu_op_softcap = {run};

}  // namespace kvass
