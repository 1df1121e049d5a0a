// One step's shared tables and the execution of its operators. The tables are computed once a step and read by every
// layer: rotary angles per distinct rotary embedding, visible keys per distinct window. They lie in the session's
// arena.
#pragma once

#include <span>
#include <vector>

#include "cache/tiles.h"
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

  // [rows][head_dim / 2]; `sink`: the positions at which rows look at sink keys.
  const float* cos(RotaryId id) const { return angles_[static_cast<size_t>(id)].cos; }
  const float* sin(RotaryId id) const { return angles_[static_cast<size_t>(id)].sin; }
  const float* sink_cos(RotaryId id) const { return angles_[static_cast<size_t>(id)].sink_cos; }
  const float* sink_sin(RotaryId id) const { return angles_[static_cast<size_t>(id)].sink_sin; }
  bool has_sinks() const { return has_sinks_; }  // whether a run of this step has sink keys

  TileShape shape(StateId state) const {
    return runs_.front().sequence->plan().layers[static_cast<size_t>(state)].shape;
  }
  std::span<const CacheWriteRun> write_runs(StateId state);
  std::span<const AttentionRun> attention_runs(const Program& program, StateId state);

 private:
  struct Angles {
    int64_t half = 0;  // head_dim / 2
    float* cos = nullptr;
    float* sin = nullptr;
    float* sink_cos = nullptr;
    float* sink_sin = nullptr;
  };
  struct RunRows {
    Sequence* sequence = nullptr;
    int64_t first_row = 0;
    int64_t rows = 0;
    int64_t start = 0;
  };
  const RowVisibility* visible(int64_t window) const;  // [rows]

  std::vector<Angles> angles_;           // [rotaries]
  std::vector<Window> windows_;          // distinct windows of the states
  std::vector<RowVisibility*> visible_;  // [distinct windows] -> [rows]
  int64_t* positions_ = nullptr;         // [rows]
  int64_t* sink_positions_ = nullptr;    // [rows]
  int32_t* tokens_ = nullptr;            // [rows]
  int32_t* selected_ = nullptr;          // [head_rows]
  std::vector<RunRows> runs_;            // capacity: the planned sequences
  std::vector<CacheWriteRun> write_runs_;
  std::vector<AttentionRun> attention_runs_;
  int64_t rows_ = 0;
  int64_t head_rows_ = 0;
  bool has_sinks_ = false;
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
