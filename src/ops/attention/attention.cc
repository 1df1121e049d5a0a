#include "ops/attention/attention.h"

#include <algorithm>
#include <cassert>

#include "kernels/attention/attention.h"

namespace kvass {
namespace {

constexpr int64_t kMinBlockRows = 32;
constexpr int64_t kItemsPerThread = 4;  // with fewer, threads would be idle at the end

// Rows of a block share the expansion of a tile. With more rows, q, o and the tile would not fit into the second-level
// cache. A multiple of the kernels' six rows.
constexpr int64_t kMaxBlockRows = 144;

// Number of partials in the scratch: the capacity of one wave of span tasks.
int64_t partial_rows(int threads) { return threads == 1 ? 0 : 512 + 64 * threads; }

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// The division of the work: an item is a (run, KV head, block of rows). If there are too few items, they are divided by
// spans too. The division does not change a bit.
class Division {
 public:
  Division(const AttentionArgs& args, int threads) : args_(args), group_(args.heads / args.shape.kv_heads) {
    const int64_t wanted = threads == 1 ? 0 : kItemsPerThread * threads;
    block_rows_ = kMaxBlockRows;
    items_ = count();
    while (items_ < wanted && block_rows_ > kMinBlockRows) {
      block_rows_ = std::max(kMinBlockRows, block_rows_ / 2);
      items_ = count();
    }
    by_spans_ = items_ < wanted;
  }

  int64_t items() const { return items_; }
  bool by_spans() const { return by_spans_; }

  // The block of an item, without scratch. Sets `spans` to the number of spans that its rows see.
  AttentionBlock block(int64_t item, RotateRowKernel rotate, int64_t& spans) const;

 private:
  int64_t blocks(const AttentionRun& run) const { return ceil_div(run.rows * group_, block_rows_); }
  int64_t count() const {
    int64_t items = 0;
    for (const AttentionRun& run : args_.runs) items += args_.shape.kv_heads * blocks(run);
    return items;
  }
  AttentionKeys keys(const KeySegment& segment, const RowKeys* rows, const uint64_t* valid, int64_t kv_head) const {
    if (segment.tiles == 0) return {};
    if (rows) return {nullptr, segment.tiles, segment.origin, valid, &read_row_tile, rows, kv_head};
    const size_t first_tile = static_cast<size_t>(kv_head * segment.tiles);
    return {segment.data + first_tile * args_.shape.tile_bytes(),
            segment.tiles,
            segment.origin,
            valid,
            nullptr,
            nullptr,
            0};
  }

  const AttentionArgs& args_;
  int64_t group_;
  int64_t block_rows_;
  int64_t items_;
  bool by_spans_;
};

AttentionBlock Division::block(int64_t item, RotateRowKernel rotate, int64_t& spans) const {
  const AttentionRun* run = args_.runs.data();
  for (; item >= args_.shape.kv_heads * blocks(*run); ++run) item -= args_.shape.kv_heads * blocks(*run);
  const int64_t kv_head = item % args_.shape.kv_heads;
  const int64_t head_dim = args_.shape.head_dim;
  const int64_t first_head = kv_head * group_;
  const auto table = [&](const float* angles) { return angles ? angles + run->first_row * (head_dim / 2) : nullptr; };

  AttentionBlock block;
  // The last rows of a causal run see the most keys. They come first, so that the threads finish together.
  block.first_row = (blocks(*run) - 1 - item / args_.shape.kv_heads) * block_rows_;
  block.rows = std::min(block_rows_, run->rows * group_ - block.first_row);
  block.group = group_;
  block.q = args_.q + run->first_row * args_.q_stride + first_head * head_dim;
  if (args_.q_sink) block.q_sink = args_.q_sink + (block.q - args_.q);
  block.q_stride = args_.q_stride;
  block.out = args_.out + run->first_row * args_.out_stride + first_head * head_dim;
  block.out_stride = args_.out_stride;
  block.visible = run->visible;
  block.cos = table(args_.cos);
  block.sin = table(args_.sin);
  block.sink_cos = table(args_.sink_cos);
  block.sink_sin = table(args_.sink_sin);
  block.rotate = rotate;
  block.sink_logits = args_.sink_logits ? args_.sink_logits + first_head : nullptr;
  if (args_.sums) block.sums = args_.sums + (run->first_row * args_.heads + first_head) * 2;
  block.sums_stride = args_.heads * 2;
  block.scale = args_.scale;
  block.softcap = args_.softcap;
  block.dtype = args_.shape.dtype;
  block.head_dim = head_dim;
  block.sink = keys(run->sink, run->sink_rows, run->sink_valid, kv_head);
  block.body = keys(run->body, run->body_rows, run->body_valid, kv_head);

  int64_t sink_end = 0;  // offsets
  int64_t body_begin = INT64_MAX;
  int64_t body_end = 0;
  for (int64_t row = block.first_row / group_; row <= (block.first_row + block.rows - 1) / group_; ++row) {
    const RowVisibility& visible = run->visible[row];
    const int64_t begin = std::max(visible.begin, block.body.origin);
    if (block.sink.tiles != 0) sink_end = std::max(sink_end, visible.sink_end - block.sink.origin);
    if (block.body.tiles != 0 && begin < visible.end) {
      body_begin = std::min(body_begin, begin - block.body.origin);
      body_end = std::max(body_end, visible.end - block.body.origin);
    }
  }
  block.sink_spans = ceil_div(sink_end, kSpanKeys);
  block.body_first_span = body_end == 0 ? 0 : body_begin / kSpanKeys;
  spans = block.sink_spans + (body_end == 0 ? 0 : ceil_div(body_end, kSpanKeys) - block.body_first_span);
  return block;
}

// Spans [begin, end) of an item, computed in one wave; its partials begin at row `partial`.
struct Piece {
  int64_t item;
  int64_t begin;
  int64_t end;
  int64_t partial;
  int64_t rows;
  bool last;
};

// The parts of the scratch.
struct Scratch {
  int64_t block_floats;    // scratch of the block kernel, for one thread
  int64_t partial_floats;  // [partial_rows][attention_partial_floats]
  int64_t state_floats;    // [items][kMinBlockRows][2]
  int64_t pieces;

  Scratch(int64_t rows, int64_t head_dim, int threads)
      : block_floats(round_up(attention_scratch_floats(std::min(rows, kMaxBlockRows), head_dim), 16)),
        partial_floats(partial_rows(threads) * attention_partial_floats(head_dim)),
        state_floats(threads == 1 ? 0 : kItemsPerThread * threads * kMinBlockRows * 2),
        pieces(threads == 1 ? 0 : kItemsPerThread * threads) {}
  size_t bytes(int threads) const {
    return static_cast<size_t>(threads * block_floats + partial_floats + state_floats) * sizeof(float) +
           static_cast<size_t>(pieces) * sizeof(Piece);
  }
};

void* tile_scratch(const AttentionArgs& args, int thread) {
  if (!args.tile_scratch) return nullptr;
  return static_cast<uint8_t*>(args.tile_scratch) + static_cast<size_t>(thread) * args.shape.tile_bytes();
}

int64_t rows_of(const AttentionArgs& args) {
  int64_t rows = 0;
  for (const AttentionRun& run : args.runs) rows += run.rows;
  return rows * (args.heads / args.shape.kv_heads);
}

// Computes in waves of as many spans as fit into the scratch. In a wave, threads compute spans in any order; then the
// spans are merged in order, item by item.
void run_by_spans(const AttentionArgs& args, const Division& division, const Scratch& layout, float* scratch,
                  ThreadPool& pool, Isa isa) {
  const AttentionBlockKernel kernel = attention_block_for(isa);
  const AttentionMergeKernel merge = attention_merge_for(isa);
  const RotateRowKernel rotate = rotation_for(isa, args.interleaved);
  float* partials = scratch + pool.threads() * layout.block_floats;
  float* states = partials + layout.partial_floats;
  Piece* pieces = reinterpret_cast<Piece*>(states + layout.state_floats);
  const int64_t partial_floats = attention_partial_floats(args.shape.head_dim);
  const int64_t room = partial_rows(pool.threads());
  std::fill(states, states + layout.state_floats, 0.0f);

  int64_t item = 0;
  int64_t span = 0;
  while (item < division.items()) {
    int64_t count = 0;
    int64_t used = 0;
    int64_t tasks = 0;
    while (item < division.items()) {
      int64_t spans = 0;
      const AttentionBlock block = division.block(item, rotate, spans);
      const int64_t taken = std::min(spans - span, (room - used) / block.rows);
      if (taken == 0 && spans != 0) break;
      pieces[count++] = {item, span, span + taken, used, block.rows, span + taken == spans};
      used += taken * block.rows;
      tasks += taken;
      span += taken;
      if (span != spans) break;
      ++item;
      span = 0;
    }
    pool.run(tasks, [&](int64_t task, int thread) {
      const Piece* piece = pieces;
      for (; task >= piece->end - piece->begin; ++piece) task -= piece->end - piece->begin;
      int64_t spans = 0;
      AttentionBlock block = division.block(piece->item, rotate, spans);
      block.scratch = scratch + thread * layout.block_floats;
      block.tile_scratch = tile_scratch(args, thread);
      kernel(block, piece->begin + task, piece->begin + task + 1,
             partials + (piece->partial + task * block.rows) * partial_floats);
    });
    int64_t rows = 0;
    for (int64_t i = 0; i < count; ++i) rows += pieces[i].rows;
    pool.run(rows, [&](int64_t row, int) {
      const Piece* piece = pieces;
      for (; row >= piece->rows; ++piece) row -= piece->rows;
      int64_t spans = 0;
      const AttentionBlock block = division.block(piece->item, rotate, spans);
      merge(block, row, row + 1, partials + piece->partial * partial_floats, piece->end - piece->begin,
            states + piece->item * kMinBlockRows * 2, piece->last);
    });
  }
}

}  // namespace

size_t attention_scratch_bytes(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim, int threads) {
  return Scratch(rows * (heads / kv_heads), head_dim, threads).bytes(threads);
}

void attention(const AttentionArgs& args, void* scratch, ThreadPool& pool, Isa isa) {
  assert(args.shape.kv_heads > 0 && args.heads % args.shape.kv_heads == 0);
  assert(args.shape.head_dim % 16 == 0 && args.shape.head_dim <= kAttentionMaxHeadDim);
  const Division division(args, pool.threads());
  const Scratch layout(rows_of(args), args.shape.head_dim, pool.threads());
  float* floats = static_cast<float*>(scratch);
  if (division.by_spans()) {
    run_by_spans(args, division, layout, floats, pool, isa);
    return;
  }
  const AttentionBlockKernel kernel = attention_block_for(isa);
  pool.run(division.items(), [&](int64_t item, int thread) {
    int64_t spans = 0;
    AttentionBlock block = division.block(item, rotation_for(isa, args.interleaved), spans);
    block.scratch = floats + thread * layout.block_floats;
    block.tile_scratch = tile_scratch(args, thread);
    kernel(block, 0, spans, nullptr);
  });
}

}  // namespace kvass
