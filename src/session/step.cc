#include "session/step.h"

#include <algorithm>
#include <cstring>

namespace kvass {
namespace {

using KeyWindow = StepTables::KeyWindow;

std::vector<KeyWindow> distinct_windows(const Program& program) {
  std::vector<KeyWindow> windows;
  for (size_t i = 0; i < program.states.size(); ++i) {
    const int64_t tokens = program.states[i].window;
    const bool known =
        std::any_of(windows.begin(), windows.end(), [&](const KeyWindow& w) { return w.tokens == tokens; });
    if (!known) windows.push_back({tokens, static_cast<StateId>(i)});
  }
  return windows;
}

// The angle tables of a program, without their memory: layers with the same rotary embedding and window share one.
std::vector<StepTables::Angles> distinct_angles(const Program& program, std::vector<size_t>* of_state) {
  std::vector<StepTables::Angles> tables;
  for (size_t i = 0; i < program.states.size(); ++i) {
    const CacheState& state = program.states[i];
    const auto found = std::find_if(tables.begin(), tables.end(), [&](const StepTables::Angles& table) {
      return table.rotary == state.rotary && program.states[static_cast<size_t>(table.state)].window == state.window;
    });
    if (of_state) of_state->push_back(static_cast<size_t>(found - tables.begin()));
    if (found != tables.end()) continue;
    StepTables::Angles table;
    table.rotary = state.rotary;
    table.state = static_cast<StateId>(i);
    table.half = state.head_dim / 2;
    tables.push_back(table);
  }
  return tables;
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
  angles_ = distinct_angles(program, &angles_of_);
  const std::vector<bool> takes_sinks = sink_layers(cache_shapes(program));
  for (Angles& angles : angles_) {
    if (angles.rotary == kNone) continue;
    for (float** table : {&angles.cos, &angles.sin}) *table = cursor.take<float>(options.rows * angles.half);
    if (!takes_sinks[static_cast<size_t>(angles.state)]) continue;
    for (float** table : {&angles.sink_cos, &angles.sink_sin}) *table = cursor.take<float>(options.rows * angles.half);
  }
  for (size_t i = 0; i < windows_.size(); ++i) visible_.push_back(cursor.take<RowVisibility>(options.rows));
  if (program.has_encoder()) cross_visible_ = cursor.take<RowVisibility>(options.rows);
  run_of_ = cursor.take<int32_t>(options.rows);
  tokens_ = cursor.take<int32_t>(options.rows);
  selected_ = cursor.take<int32_t>(options.head_rows);
  bytes_ = cursor.used();
  runs_.reserve(static_cast<size_t>(options.sequences));
  write_runs_.reserve(static_cast<size_t>(options.sequences));
  attention_runs_.reserve(static_cast<size_t>(options.sequences));
}

void StepTables::begin_encode(Sequence& sequence, int64_t frames) {
  runs_.clear();
  runs_.push_back({&sequence, 0, 0, 0});
  rows_ = 0;
  head_rows_ = 0;
  frames_ = frames;
  window_ = narrow(0, 1);
}

StepTables::Window StepTables::narrow(int64_t first_run, int64_t runs) const {
  Window window{first_run, runs, 0, 0};
  if (runs == 0) return window;
  window.first_row = runs_[static_cast<size_t>(first_run)].first_row;
  for (int64_t i = first_run; i < first_run + runs; ++i) window.rows += runs_[static_cast<size_t>(i)].rows;
  return window;
}

size_t StepTables::bytes(const Program& program, const SessionOptions& options) {
  return StepTables(program, options, nullptr).bytes_;
}

const RowVisibility* StepTables::visible(int64_t window) const {
  const auto same = [&](const KeyWindow& w) { return w.tokens == window; };
  return visible_[static_cast<size_t>(std::find_if(windows_.begin(), windows_.end(), same) - windows_.begin())];
}

void StepTables::begin(const Engine& engine, std::span<const Run> runs, ThreadPool& pool) {
  runs_.clear();
  rows_ = 0;
  head_rows_ = 0;
  for (Angles& angles : angles_) angles.two_queries = false;
  for (const Run& run : runs) {
    const int64_t count = static_cast<int64_t>(run.tokens.size());
    std::copy(run.tokens.begin(), run.tokens.end(), tokens_ + rows_);
    std::fill_n(run_of_ + rows_, count, static_cast<int32_t>(runs_.size()));
    runs_.push_back({run.sequence, rows_, count, run.start});
    const std::vector<LayerCache>& layers = run.sequence->plan().layers;
    for (Angles& angles : angles_) {
      if (layers[static_cast<size_t>(angles.state)].rotary.two_queries()) angles.two_queries = true;
    }
    for (size_t kind = 0; kind < windows_.size(); ++kind) {
      const Layout& layout = layers[static_cast<size_t>(windows_[kind].state)].layout;
      for (int64_t i = 0; i < count; ++i) visible_[kind][rows_ + i] = layout.row_visibility(run.start + i);
    }
    rows_ += count;
  }
  window_ = narrow(0, static_cast<int64_t>(runs_.size()));
  const bool turns = std::any_of(angles_.begin(), angles_.end(), [](const Angles& a) { return a.rotary != kNone; });
  if (!turns) return;
  pool.run(rows_, [&](int64_t row, int) {
    const RunRows& run = runs_[static_cast<size_t>(run_of_[row])];
    const int64_t position = run.start + row - run.first_row;
    for (const Angles& angles : angles_) {
      if (angles.rotary != kNone) fill_angles(engine, run, angles, position, row);
    }
  });
}

void StepTables::fill_angles(const Engine& engine, const RunRows& run, const Angles& angles, int64_t position,
                             int64_t row) const {
  const RotaryPositions& rule = run.sequence->plan().layers[static_cast<size_t>(angles.state)].rotary;
  const Rotary& rotary = engine.rotary(angles.rotary);
  const int64_t at = row * angles.half;
  fill_rotary_row(rotary, rule.key(position), angles.cos + at, angles.sin + at);
  if (!angles.two_queries) return;
  if (rule.sink_query(position) == rule.key(position)) {
    std::memcpy(angles.sink_cos + at, angles.cos + at, static_cast<size_t>(angles.half) * sizeof(float));
    std::memcpy(angles.sink_sin + at, angles.sin + at, static_cast<size_t>(angles.half) * sizeof(float));
  } else {
    fill_rotary_row(rotary, rule.sink_query(position), angles.sink_cos + at, angles.sink_sin + at);
  }
}

void StepTables::select(std::span<const int32_t> rows) {
  std::copy(rows.begin(), rows.end(), selected_);
  head_rows_ = static_cast<int64_t>(rows.size());
}

std::span<const CacheWriteRun> StepTables::write_runs(StateId state) {
  write_runs_.clear();
  for (const RunRows& run : window_runs()) {
    const LayerCache& cache = run.sequence->plan().layers[static_cast<size_t>(state)];
    uint8_t* block = run.sequence->block();
    write_runs_.push_back({run.first_row, run.rows, run.start, cache.sink_segment(block), cache.ring_segment(block)});
  }
  return write_runs_;
}

std::span<const AttentionRun> StepTables::attention_runs(const Program& program, StateId state) {
  const RowVisibility* visible = this->visible(program.states[static_cast<size_t>(state)].window);
  attention_runs_.clear();
  for (const RunRows& run : window_runs()) {
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

std::span<const AttentionRun> StepTables::cross_runs(CrossId id) {
  attention_runs_.clear();
  for (const RunRows& run : window_runs()) {
    CrossCache& cross = *run.sequence->cross();
    std::fill_n(cross_visible_ + run.first_row, run.rows, RowVisibility{0, 0, cross.filled(id)});
    AttentionRun attention;
    attention.first_row = run.first_row;
    attention.rows = run.rows;
    attention.ring = cross.segment(id);
    attention.visible = cross_visible_ + run.first_row;
    attention_runs_.push_back(attention);
  }
  return attention_runs_;
}

}  // namespace kvass
