// One step's shared tables and the execution of its operators. The tables are computed once a step and read by every
// layer: visible keys per distinct window, rotary angles per distinct rotary embedding and window. They lie in the
// session's arena.
#pragma once

#include <span>
#include <vector>

#include "kernels/argmax/argmax.h"
#include "kvass/tiles.h"
#include "ops/attention/attention.h"
#include "ops/cache_write/cache_write.h"
#include "plan/arena.h"
#include "session/engine.h"
#include "session/session.h"

namespace kvass {

class StepTables {
 public:
  // A window of keys that layers share, and the first state that has it: their layouts are the same.
  struct KeyWindow {
    int64_t tokens = 0;
    StateId state = kNone;
  };

  static size_t bytes(const Program& program, const SessionOptions& options);
  StepTables(const Program& program, const SessionOptions& options, uint8_t* memory);  // does not own `memory`

  void begin(const Engine& engine, std::span<const Run> runs, ThreadPool& pool);
  void select(std::span<const int32_t> rows);  // the rows of the next head

  // An encode of `sequence`: no rows of a step, but those of its source.
  void begin_encode(Sequence& sequence, int64_t frames);

  // The runs whose rows ops work on: all of a step, or in a branch those that took it.
  struct Window {
    int64_t first_run = 0;
    int64_t runs = 0;
    int64_t first_row = 0;
    int64_t rows = 0;
  };
  const Window& window() const { return window_; }
  Window narrow(int64_t first_run, int64_t runs) const;
  void set_window(const Window& window) { window_ = window; }

  int64_t rows() const { return rows_; }  // of the step
  int64_t head_rows() const { return head_rows_; }
  int64_t frames() const { return frames_; }
  Sequence& sequence(int64_t run) const { return *runs_[static_cast<size_t>(run)].sequence; }
  // Of the window's first sequence, which is its only one where source rows are worked on.
  CrossCache& cross() const { return *sequence(window_.first_run).cross(); }
  int64_t position(int64_t row) const {
    const RunRows& run = runs_[static_cast<size_t>(run_of_[row])];
    return run.start + row - run.first_row;
  }
  const int32_t* run_of() const { return run_of_; }      // [rows] -> runs of the step
  const int32_t* tokens() const { return tokens_; }      // [rows]
  const int32_t* selected() const { return selected_; }  // [head_rows]

  // Rotary angles of a layer's rows, [rows][head_dim / 2].
  struct Angles {
    RotaryId rotary = kNone;
    StateId state = kNone;     // the first that has them: the layers that share them stand at the same positions
    int64_t half = 0;          // head_dim / 2
    bool two_queries = false;  // in this step, a row looks at sink keys from a position of its own
    float* cos = nullptr;      // of keys, and of queries against keys behind the sinks
    float* sin = nullptr;
    float* sink_cos = nullptr;  // of queries against sink keys; null in layers that take no sinks
    float* sink_sin = nullptr;
  };
  const Angles& angles(StateId state) const { return angles_[angles_of_[static_cast<size_t>(state)]]; }

  TileShape shape(StateId state) const {
    return runs_.front().sequence->plan().layers[static_cast<size_t>(state)].shape;
  }
  // Of the window's runs; valid until the next call.
  std::span<const CacheWriteRun> write_runs(StateId state);
  std::span<const AttentionRun> attention_runs(const Program& program, StateId state);
  std::span<const AttentionRun> cross_runs(CrossId cross);

 private:
  struct RunRows {
    Sequence* sequence = nullptr;
    int64_t first_row = 0;
    int64_t rows = 0;
    int64_t start = 0;
  };
  std::span<const RunRows> window_runs() const {
    return std::span(runs_).subspan(static_cast<size_t>(window_.first_run), static_cast<size_t>(window_.runs));
  }
  const RowVisibility* visible(int64_t window) const;  // [rows]
  void fill_angles(const Engine& engine, const RunRows& run, const Angles& angles, int64_t position, int64_t row) const;

  size_t bytes_ = 0;  // of `memory`

  std::vector<Angles> angles_;              // distinct (rotary, window) of the states
  std::vector<size_t> angles_of_;           // [states] -> angles_
  std::vector<KeyWindow> windows_;          // distinct windows of the states
  std::vector<RowVisibility*> visible_;     // [distinct windows] -> [rows]
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
  Window window_;
};

// For whoever asks for the largest logit alone: where the head's linear may leave it (ops/linear/likeliest.h), and then
// leaves most logits out.
struct LikeliestLogit {
  uint8_t* scratch = nullptr;
  Argmax logit;
  bool found = false;  // otherwise all logits are there
};

struct StepContext {
  const Engine& engine;
  StepTables& tables;
  const ArenaPlan& plan;
  uint8_t* arena;
  ThreadPool& pool;
  const EncoderInput* input;  // of an encode
  const CrossWeights& cross_weights;
  int64_t most_rows;                    // of a step
  LikeliestLogit* likeliest = nullptr;  // null: all logits are asked for
};

// The arithmetic of a product with `x`: the vocabulary head keeps 16-bit activations under `--math a8`. It is bound by
// reading its weights, so they cost next to nothing there, and its error goes straight into the logits.
Math math_of(Math math, const Value& x);

// Scratch that an op needs while it runs.
size_t workspace_bytes(const Program& program, Math math, const Op& op, const SessionOptions& options);

// Runs op `index` of the program on the step's rows.
void execute_op(const StepContext& context, const Op& op, size_t index);

}  // namespace kvass
