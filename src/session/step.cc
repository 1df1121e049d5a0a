#include "session/step.h"

#include <algorithm>
#include <cstring>

namespace kvass {
namespace {

using Window = StepTables::Window;

std::vector<Window> distinct_windows(const Program& program) {
  std::vector<Window> windows;
  for (size_t i = 0; i < program.states.size(); ++i) {
    const int64_t tokens = program.states[i].window;
    const bool known = std::any_of(windows.begin(), windows.end(), [&](const Window& w) { return w.tokens == tokens; });
    if (!known) windows.push_back({tokens, static_cast<StateId>(i)});
  }
  return windows;
}

// Hands out consecutive aligned pieces; with a null base it only counts.
class Cursor {
 public:
  explicit Cursor(uint8_t* base) : base_(base) {}
  template <class T>
  T* take(int64_t count) {
    T* piece = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (static_cast<size_t>(count) * sizeof(T) + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    return piece;
  }
  size_t used() const { return used_; }

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

}  // namespace

StepTables::StepTables(const Program& program, const SessionOptions& options, uint8_t* memory)
    : windows_(distinct_windows(program)) {
  Cursor cursor(memory);
  for (const RotaryParams& rotary : program.rotaries) {
    Angles angles;
    angles.half = rotary.head_dim / 2;
    for (float** table : {&angles.cos, &angles.sin, &angles.sink_cos, &angles.sink_sin}) {
      *table = cursor.take<float>(options.rows * angles.half);
    }
    angles_.push_back(angles);
  }
  for (size_t i = 0; i < windows_.size(); ++i) visible_.push_back(cursor.take<RowVisibility>(options.rows));
  positions_ = cursor.take<int64_t>(options.rows);
  sink_positions_ = cursor.take<int64_t>(options.rows);
  tokens_ = cursor.take<int32_t>(options.rows);
  selected_ = cursor.take<int32_t>(options.head_rows);
  runs_.reserve(static_cast<size_t>(options.sequences));
  write_runs_.reserve(static_cast<size_t>(options.sequences));
  attention_runs_.reserve(static_cast<size_t>(options.sequences));
}

size_t StepTables::bytes(const Program& program, const SessionOptions& options) {
  Cursor cursor(nullptr);
  for (const RotaryParams& rotary : program.rotaries) {
    for (int table = 0; table < 4; ++table) cursor.take<float>(options.rows * (rotary.head_dim / 2));
  }
  for (size_t i = 0; i < distinct_windows(program).size(); ++i) cursor.take<RowVisibility>(options.rows);
  cursor.take<int64_t>(options.rows);
  cursor.take<int64_t>(options.rows);
  cursor.take<int32_t>(options.rows);
  cursor.take<int32_t>(options.head_rows);
  return cursor.used();
}

const RowVisibility* StepTables::visible(int64_t window) const {
  const auto same = [&](const Window& w) { return w.tokens == window; };
  return visible_[static_cast<size_t>(std::find_if(windows_.begin(), windows_.end(), same) - windows_.begin())];
}

void StepTables::begin(const Engine& engine, std::span<const Run> runs, ThreadPool& pool) {
  runs_.clear();
  rows_ = 0;
  head_rows_ = 0;
  has_sinks_ = false;
  for (const Run& run : runs) {
    const int64_t count = static_cast<int64_t>(run.tokens.size());
    runs_.push_back({run.sequence, rows_, count, run.start});
    std::copy(run.tokens.begin(), run.tokens.end(), tokens_ + rows_);
    const bool sinks = run.sequence->endless() && run.sequence->options().sink_tokens > 0;
    has_sinks_ = has_sinks_ || sinks;
    for (int64_t i = 0; i < count; ++i) {
      positions_[rows_ + i] = run.start + i;
      sink_positions_[rows_ + i] = sinks ? run.sequence->sink_query_position(run.start + i) : run.start + i;
    }
    for (size_t kind = 0; kind < windows_.size(); ++kind) {
      const Layout& layout = run.sequence->plan().layers[static_cast<size_t>(windows_[kind].state)].layout;
      for (int64_t i = 0; i < count; ++i) visible_[kind][rows_ + i] = layout.row_visibility(run.start + i);
    }
    rows_ += count;
  }
  pool.run(rows_, [&](int64_t row, int) {
    for (size_t id = 0; id < angles_.size(); ++id) {
      const Angles& angles = angles_[id];
      const Rotary& rotary = engine.rotary(static_cast<RotaryId>(id));
      const int64_t at = row * angles.half;
      fill_rotary_row(rotary, positions_[row], angles.cos + at, angles.sin + at);
      if (!has_sinks_) continue;
      if (sink_positions_[row] == positions_[row]) {
        std::memcpy(angles.sink_cos + at, angles.cos + at, static_cast<size_t>(angles.half) * sizeof(float));
        std::memcpy(angles.sink_sin + at, angles.sin + at, static_cast<size_t>(angles.half) * sizeof(float));
      } else {
        fill_rotary_row(rotary, sink_positions_[row], angles.sink_cos + at, angles.sink_sin + at);
      }
    }
  });
}

void StepTables::select(std::span<const int32_t> rows) {
  std::copy(rows.begin(), rows.end(), selected_);
  head_rows_ = static_cast<int64_t>(rows.size());
}

std::span<const CacheWriteRun> StepTables::write_runs(StateId state) {
  write_runs_.clear();
  for (const RunRows& run : runs_) {
    const LayerCache& cache = run.sequence->plan().layers[static_cast<size_t>(state)];
    uint8_t* block = run.sequence->block();
    write_runs_.push_back({run.first_row, run.rows, run.start, cache.sink_segment(block), cache.ring_segment(block)});
  }
  return write_runs_;
}

std::span<const AttentionRun> StepTables::attention_runs(const Program& program, StateId state) {
  const RowVisibility* visible = this->visible(program.states[static_cast<size_t>(state)].window);
  attention_runs_.clear();
  for (const RunRows& run : runs_) {
    const LayerCache& cache = run.sequence->plan().layers[static_cast<size_t>(state)];
    uint8_t* block = run.sequence->block();
    AttentionRun attention;
    attention.first_row = run.first_row;
    attention.rows = run.rows;
    attention.sink = cache.sink_segment(block);
    attention.ring = cache.ring_segment(block);
    attention.visible = visible + run.first_row;
    attention_runs_.push_back(attention);
  }
  return attention_runs_;
}

}  // namespace kvass
