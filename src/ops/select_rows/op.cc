// The rows of a chunk whose logits are asked for.
#include <cstring>

#include "exec/operators.h"

namespace kvass {
namespace {

void run(const OpView& op) {
  const auto width = static_cast<size_t>(op.width());
  for (size_t row = 0; row < static_cast<size_t>(op.rows()); ++row) {
    const auto from = static_cast<size_t>(op.frame().selected()[row]);
    std::memcpy(op.out() + row * width, op.all_in() + from * width, width * sizeof(float));
  }
}

}  // namespace

constinit const OpSpec op_spec_select_rows = {.input_rows = set_of(Extent::chunk),
                                              .output_rows = set_of(Extent::head),
                                              .same_width = true,
                                              .example = {.inputs = {40}, .outputs = {40}}};
constinit const CpuOp cpu_op_select_rows = {run};

}  // namespace kvass
