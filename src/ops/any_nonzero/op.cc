// 1 for each sequence whose cross cache has a key or value that is not 0, otherwise 0: a scan of all that it has room
// for.
#include <algorithm>

#include "exec/operators.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) { return op.width("output", 1, op.out(0).width); }

bool any_nonzero(const CrossView& cross) {
  const uint8_t* begin = cross.segment.data;
  return std::any_of(begin, begin + cross.shape.segment_bytes(cross.segment.tiles),
                     [](uint8_t byte) { return byte != 0; });
}

void run(const OpView& op) {
  const Frame& frame = op.frame();
  const int64_t first = frame.first_of(Extent::sequence);
  for (int64_t i = 0; i < op.rows(); ++i) {
    op.out()[i] = any_nonzero(frame.cross(first + i, op.op().cross)) ? 1.0f : 0.0f;
  }
}

}  // namespace

constinit const OpSpec op_spec_any_nonzero = {.inputs = 0,
                                              .output_rows = set_of(Extent::sequence),
                                              .places = set_of(Place::body, Place::one_sequence),
                                              .cross = Access::reads,
                                              .scans_cross = true,
                                              .check = check,
                                              .example = {.outputs = {1}}};
constinit const CpuOp cpu_op_any_nonzero = {run};

}  // namespace kvass
