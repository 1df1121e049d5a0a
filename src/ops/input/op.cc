// The rows that the caller brings to the encoder: its channels, turned to rows.
#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  if (op.program().input() == &op.op()) return {};
  return op.fail("input", "one in a program", "a second one");
}

void run(const OpView& op) {
  const int64_t width = op.width();
  const EncoderInput& input = op.encoder_input();
  const int64_t stride = input.stride == 0 ? op.rows() : input.stride;
  const float* from = static_cast<const float*>(input.data);
  float* out = op.out();
  op.for_rows([&](int64_t first, int64_t count) {
    for (int64_t channel = 0; channel < width; ++channel) {
      for (int64_t row = first; row < first + count; ++row) out[row * width + channel] = from[channel * stride + row];
    }
  });
}

}  // namespace

constinit const OpSpec op_spec_input = {.inputs = 0,
                                        .output_rows = set_of(Extent::frames, Extent::source),
                                        .places = set_of(Place::encode),
                                        .check = check,
                                        .example = {.outputs = {20}, .any_width = true}};
constinit const CpuOp cpu_op_input = {run};

}  // namespace kvass
