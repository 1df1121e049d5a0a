// out = x + the weight's row of the position: the stream's positions for rows of a chunk, their own for source rows.
#include "exec/operators.h"
#include "kernels/elementwise/elementwise.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  KVASS_RETURN_IF_ERROR(op.width("input", op.weight(0).inputs, op.in(0).width));
  const int64_t source_rows = op.program().source.rows;
  if (op.in(0).extent != Extent::source || op.weight(0).outputs >= source_rows) return {};
  return op.fail("weight", "a row for each of " + std::to_string(source_rows) + " source rows",
                 std::to_string(op.weight(0).outputs));
}

size_t workspace(const OpPlan& op) { return static_cast<size_t>(op.threads * op.output().width) * sizeof(float); }

void run(const OpView& op) {
  const int64_t width = op.width();
  const bool chunk = op.output().extent == Extent::chunk;
  const Frame& frame = op.frame();
  float* scratch = static_cast<float*>(op.workspace());  // [threads][width]
  const auto kernel = add_for(op.isa());
  op.for_rows([&](int64_t first, int64_t count, int thread) {
    float* row_of_table = scratch + thread * width;
    for (int64_t row = first; row < first + count; ++row) {
      unpack_row(op.matrix(), chunk ? frame.position(frame.first_of(Extent::chunk) + row) : row, row_of_table);
      kernel(op.in() + row * width, row_of_table, op.out() + row * width, width);
    }
  });
}

}  // namespace

constinit const OpSpec op_spec_positions = {.weights = 1,
                                            .weight_form = WeightForm::matrix,
                                            .reads_single_rows = true,
                                            .input_rows = set_of(Extent::chunk, Extent::source),
                                            .same_width = true,
                                            .in_place = true,
                                            .check = check,
                                            .example = {.inputs = {64}, .outputs = {64}, .weights = {{{40, 64}}}}};
constinit const CpuOp cpu_op_positions = {run, workspace};

}  // namespace kvass
