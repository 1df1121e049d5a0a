// One step's shared tables and the execution of its operators. The tables are computed once a step and read by every
// layer: visible keys per distinct window, rotary angles per distinct rotary embedding and window. They lie in the
// session's arena.
#pragma once

#include <span>
#include <vector>

#include "kvass/tiles.h"
#include "ops/attention/attention.h"
#include "ops/cache_write/cache_write.h"
#include "plan/arena.h"
#include "session/engine.h"
#include "session/session.h"

namespace kvass {

class StepTables {
 public:
  // A window that layers share, and the first state that has it: their layouts are the same.
  struct Window {
    int64_t tokens = 0;
    StateId state = kNone;
  };

  static size_t bytes(const Program& program, const SessionOptions& options);
  StepTables(const Program& program, const SessionOptions& options, uint8_t* memory);  // does not own `memory`

  void begin(const Engine& engine, std::span<const Run> runs, ThreadPool& pool);
  void select(std::span<const int32_t> rows);  // the rows of the next head

  int64_t rows() const { return rows_; }
  int64_t head_rows() const { return head_rows_; }
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
  std::span<const CacheWriteRun> write_runs(StateId state);
  std::span<const AttentionRun> attention_runs(const Program& program, StateId state);

 private:
  struct RunRows {
    Sequence* sequence = nullptr;
    int64_t first_row = 0;
    int64_t rows = 0;
    int64_t start = 0;
  };
  const RowVisibility* visible(int64_t window) const;  // [rows]
  void fill_angles(const Engine& engine, const RunRows& run, const Angles& angles, int64_t position, int64_t row) const;

  size_t bytes_ = 0;  // of `memory`

  std::vector<Angles> angles_;           // distinct (rotary, window) of the states
  std::vector<size_t> angles_of_;        // [states] -> angles_
  std::vector<Window> windows_;          // distinct windows of the states
  std::vector<RowVisibility*> visible_;  // [distinct windows] -> [rows]
  int32_t* run_of_ = nullptr;            // [rows] -> runs_
  int32_t* tokens_ = nullptr;            // [rows]
  int32_t* selected_ = nullptr;          // [head_rows]
  std::vector<RunRows> runs_;            // capacity: the planned sequences
  std::vector<CacheWriteRun> write_runs_;
  std::vector<AttentionRun> attention_runs_;
  int64_t rows_ = 0;
  int64_t head_rows_ = 0;
};

struct OpContext {
  const Engine& engine;
  StepTables& tables;
  const ArenaPlan& plan;
  uint8_t* arena;
  ThreadPool& pool;
};

// Scratch that an op needs while it runs.
size_t workspace_bytes(const Program& program, Math math, const Op& op, const SessionOptions& options);

// Runs op `index` of the program on the step's rows.
void execute_op(const OpContext& context, const Op& op, size_t index);

}  // namespace kvass
