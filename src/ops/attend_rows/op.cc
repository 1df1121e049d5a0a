// Every row attends to every row of its sequence: no cache, no mask. Keys and values go into float32 tiles of the
// workspace, as the attention reads them.
#include <algorithm>

#include "exec/operators.h"
#include "ops/attention/attention.h"
#include "ops/cache_write/cache_write.h"
#include "program/op_check.h"

namespace kvass {
namespace {

Status check(const OpCheck& op) {
  const int64_t heads = op.op().heads, width = op.in(0).width;
  if (heads < 1 || heads > kMaxHeads || width % heads != 0 || width / heads % 16 != 0 || width / heads > kMaxHeadDim) {
    return op.fail("heads", "heads whose size is a multiple of 16 up to " + std::to_string(kMaxHeadDim),
                   std::to_string(heads) + " of " + std::to_string(width));
  }
  const int64_t head_dim = width / heads;
  if (op.in(1).width < head_dim || op.in(1).width % head_dim != 0 || heads % (op.in(1).width / head_dim) != 0) {
    return op.fail("k", "heads of " + std::to_string(head_dim) + " that divide " + std::to_string(heads),
                   "width " + std::to_string(op.in(1).width));
  }
  return op.width("v", op.in(1).width, op.in(2).width);
}

// [tiles | visible keys | scratch of the attention]
struct Workspace {
  Workspace(const Program& program, const Op& op, int threads) {
    const Value& q = program.values[static_cast<size_t>(op.inputs[0])];
    const int64_t head_dim = q.width / op.heads;
    const int64_t rows = RowLimits().of(program, q.extent);  // of the encoder, so the program's own
    shape = {DType::f32, program.values[static_cast<size_t>(op.inputs[1])].width / head_dim, head_dim};
    tiles = (rows + kTileKeys - 1) / kTileKeys;
    visible = shape.segment_bytes(tiles);
    scratch = visible + (static_cast<size_t>(rows) * sizeof(RowVisibility) + kArenaAlignment - 1) / kArenaAlignment *
                            kArenaAlignment;
    bytes = scratch + attention_scratch_bytes(rows, op.heads, shape.kv_heads, head_dim, threads);
  }
  TileShape shape;
  int64_t tiles;
  size_t visible, scratch, bytes;
};

size_t workspace(const OpPlan& op) { return Workspace(op.program, op.op, op.threads).bytes; }

void run(const OpView& op) {
  const Workspace places(op.program(), op.op(), op.pool().threads());
  const int64_t count = op.rows();
  uint8_t* memory = static_cast<uint8_t*>(op.workspace());
  const KeySegment segment{memory, places.tiles, 0};
  RowVisibility* visible = reinterpret_cast<RowVisibility*>(memory + places.visible);
  std::fill_n(visible, count, RowVisibility{0, 0, count});
  CacheWriteArgs write;
  write.k = op.in(1);
  write.v = op.in(2);
  write.shape = places.shape;
  const CacheWriteRun whole{0, count, 0, {}, segment};
  write.runs = std::span(&whole, 1);
  cache_write(write, op.pool(), op.isa());

  AttentionArgs args;
  args.q = op.in(0);
  args.q_stride = op.input().width;
  args.out = op.out();
  args.out_stride = op.width();
  args.heads = op.op().heads;
  args.shape = places.shape;
  args.scale = op.op().scale;
  AttentionRun run;
  run.rows = count;
  run.body = segment;
  run.visible = visible;
  args.runs = std::span(&run, 1);
  attention(args, memory + places.scratch, op.pool(), op.isa());
}

}  // namespace

constinit const OpSpec op_spec_attend_rows = {
    .inputs = 3,
    .input_rows = set_of(Extent::frames, Extent::source),
    .same_width = true,
    .check = check,
    .example = {.inputs = {64, 32, 32}, .outputs = {64}, .heads = 4, .scale = 0.25f}};
constinit const CpuOp cpu_op_attend_rows = {run, workspace};

}  // namespace kvass
