// What the ops of one step share: which rows belong to which sequence, where its caches lie, which keys a row sees, the
// rotary angles of its position. Computed once a step and read by every layer; the tables lie in the session's memory.
//
// A frame knows sequences only as plain views (FrameRun): it owns nothing of theirs and does not advance them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/rotary/rotary.h"
#include "kvass/cache_plan.h"
#include "kvass/tensor.h"
#include "kvass/tiles.h"
#include "ops/attention/attention.h"
#include "ops/cache_write/cache_write.h"
#include "plan/arena.h"

namespace kvass {

// The shapes that a program's caches are planned from, [states].
std::vector<CacheShape> cache_shapes(const Program& program);

// One cross cache of a sequence: its keys and values, and whether they are there. An op that fills it says so here; the
// session keeps that when the step has run.
struct CrossView {
  TileShape shape;
  KeySegment segment;
  bool initialised = false;
  int64_t filled = 0;  // keys that attention sees
};

// The tokens of one sequence in a step: positions [start, start + size). Views of its memory.
struct FrameRun {
  std::span<const int32_t> tokens;
  int64_t start = 0;
  const CachePlan* plan = nullptr;
  uint8_t* caches = nullptr;  // the block that the plan is of
  float* source = nullptr;    // encoder output, [source_rows][source width of the program]; null: none
  int64_t source_rows = 0;
  std::span<CrossView> crosses;  // [cross caches of the program]; empty: none
};

// What `encode` reads: float32 [width of the program's input][rows], channels first, `stride` elements from a channel
// to the next.
struct EncoderInput {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::span<const int64_t> shape;
  int64_t stride = 0;  // elements; 0: rows, they lie close
};

class Frame {
 public:
  // Bytes of the tables for at most so many rows, head rows and sequences.
  static size_t bytes(const Program& program, const RowLimits& limits);
  Frame(const Program& program, const RowLimits& limits, uint8_t* memory);  // does not own `memory`

  void begin(std::span<const FrameRun> runs, std::span<const Rotary> rotaries, ThreadPool& pool);
  void select(std::span<const int32_t> rows);  // the rows of the next head
  // An encode for one sequence: no rows of a step, but those of its source.
  void begin_encode(const FrameRun& run, int64_t frames);

  // The runs whose rows ops work on: all of a step, or in a branch those that took it.
  struct Active {
    int64_t first_run = 0;
    int64_t runs = 0;
    int64_t first_row = 0;
    int64_t rows = 0;
  };
  const Active& active() const { return active_; }
  Active narrow(int64_t first_run, int64_t runs) const;
  void set_active(const Active& active) { active_ = active; }

  int64_t rows() const { return rows_; }  // of the step
  int64_t head_rows() const { return head_rows_; }
  // Rows of a value of this extent, in the active runs.
  int64_t rows_of(Extent extent) const;
  // Which of all its rows is the first of the active runs.
  int64_t first_of(Extent extent) const;

  const FrameRun& run(int64_t run) const { return runs_[static_cast<size_t>(run)].run; }
  // The first active one, which is the only one where source rows are worked on.
  const FrameRun& only_run() const { return run(active_.first_run); }
  CrossView& cross(int64_t run, CrossId id) const { return this->run(run).crosses[static_cast<size_t>(id)]; }

  int64_t position(int64_t row) const {
    const RunRows& run = runs_[static_cast<size_t>(run_of_[row])];
    return run.run.start + row - run.first_row;
  }
  const int32_t* run_of() const { return run_of_; }      // [rows] -> runs of the step
  const int32_t* tokens() const { return tokens_; }      // [rows]
  const int32_t* selected() const { return selected_; }  // [head_rows]

  // Rotary angles of a layer's rows, [rows][head_dim / 2].
  struct Angles {
    RotaryId rotary = kNone;
    StateId state = kNone;     // the first layer that has them; those that share them have the same positions
    int64_t half = 0;          // head_dim / 2
    bool two_queries = false;  // in this step a query has a position of its own for sink keys
    float* cos = nullptr;      // of keys, and of queries for keys after the sinks
    float* sin = nullptr;
    float* sink_cos = nullptr;  // of queries for sink keys; null in layers that take no sinks
    float* sink_sin = nullptr;
  };
  const Angles& angles(StateId state) const { return angles_[angles_of_[static_cast<size_t>(state)]]; }

  TileShape shape(StateId state) const { return run(0).plan->layers[static_cast<size_t>(state)].shape; }
  // Of the active runs; valid until the next call.
  std::span<const CacheWriteRun> write_runs(StateId state);
  std::span<const AttentionRun> attention_runs(StateId state);
  std::span<const AttentionRun> cross_runs(CrossId cross);

 private:
  struct RunRows {
    FrameRun run;
    int64_t first_row = 0;
    int64_t rows = 0;
  };
  // Layers that see as many keys have the same layout and share what their rows see.
  struct KeyWindow {
    int64_t tokens = 0;
    StateId state = kNone;             // the first layer
    RowVisibility* visible = nullptr;  // [rows]
  };
  std::span<const RunRows> active_runs() const {
    return std::span(runs_).subspan(static_cast<size_t>(active_.first_run), static_cast<size_t>(active_.runs));
  }
  void add_run(const FrameRun& run);
  void fill_angles(std::span<const Rotary> rotaries, int64_t row) const;

  size_t bytes_ = 0;  // of `memory`

  std::vector<Angles> angles_;              // distinct (rotary, window) of the states
  std::vector<size_t> angles_of_;           // [states] -> angles_
  std::vector<KeyWindow> windows_;          // distinct windows of the states
  std::vector<size_t> window_of_;           // [states] -> windows_
  RowVisibility* cross_visible_ = nullptr;  // [rows] of the op at hand; null without an encoder
  int32_t* run_of_ = nullptr;               // [rows] -> runs_
  int32_t* tokens_ = nullptr;               // [rows]
  int32_t* selected_ = nullptr;             // [head_rows]
  std::vector<RunRows> runs_;               // capacity: the planned sequences
  std::vector<CacheWriteRun> write_runs_;
  std::vector<AttentionRun> attention_runs_;
  int64_t rows_ = 0;
  int64_t head_rows_ = 0;
  int64_t frames_ = 0;
  Active active_;
};

}  // namespace kvass
