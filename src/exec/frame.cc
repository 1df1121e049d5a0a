#include "exec/frame.h"

#include <algorithm>
#include <cstring>

namespace kvass {
namespace {

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

std::vector<CacheShape> cache_shapes(const Program& program) {
  std::vector<CacheShape> shapes;
  for (const CacheState& state : program.states) shapes.push_back({state.kv_heads, state.head_dim, state.window});
  return shapes;
}

Frame::Frame(const Program& program, const RowLimits& limits, uint8_t* memory) {
  for (size_t i = 0; i < program.states.size(); ++i) {
    const CacheState& state = program.states[i];
    const auto window = std::find_if(windows_.begin(), windows_.end(),
                                     [&](const KeyWindow& known) { return known.tokens == state.window; });
    window_of_.push_back(static_cast<size_t>(window - windows_.begin()));
    if (window == windows_.end()) windows_.push_back({state.window, static_cast<StateId>(i)});
    const auto angles = std::find_if(angles_.begin(), angles_.end(), [&](const Angles& known) {
      return known.rotary == state.rotary && program.states[static_cast<size_t>(known.state)].window == state.window;
    });
    angles_of_.push_back(static_cast<size_t>(angles - angles_.begin()));
    if (angles != angles_.end()) continue;
    Angles& added = angles_.emplace_back();
    added.rotary = state.rotary;
    added.state = static_cast<StateId>(i);
    added.half = state.head_dim / 2;
  }
  Cursor cursor(memory);
  const std::vector<bool> takes_sinks = sink_layers(cache_shapes(program));
  for (Angles& angles : angles_) {
    if (angles.rotary == kNone) continue;
    for (float** table : {&angles.cos, &angles.sin}) *table = cursor.take<float>(limits.chunk * angles.half);
    if (!takes_sinks[static_cast<size_t>(angles.state)]) continue;
    for (float** table : {&angles.sink_cos, &angles.sink_sin}) *table = cursor.take<float>(limits.chunk * angles.half);
  }
  for (KeyWindow& window : windows_) window.visible = cursor.take<RowVisibility>(limits.chunk);
  if (program.has_encoder()) cross_visible_ = cursor.take<RowVisibility>(limits.chunk);
  run_of_ = cursor.take<int32_t>(limits.chunk);
  tokens_ = cursor.take<int32_t>(limits.chunk);
  selected_ = cursor.take<int32_t>(limits.head);
  bytes_ = cursor.used();
  runs_.reserve(static_cast<size_t>(limits.sequences));
  write_runs_.reserve(static_cast<size_t>(limits.sequences));
  attention_runs_.reserve(static_cast<size_t>(limits.sequences));
}

size_t Frame::bytes(const Program& program, const RowLimits& limits) { return Frame(program, limits, nullptr).bytes_; }

void Frame::begin_encode(const FrameRun& run, int64_t frames) {
  runs_.clear();
  runs_.push_back({run, 0, 0});
  rows_ = 0;
  head_rows_ = 0;
  frames_ = frames;
  active_ = narrow(0, 1);
}

Frame::Active Frame::narrow(int64_t first_run, int64_t runs) const {
  Active active{first_run, runs, 0, 0};
  if (runs == 0) return active;
  active.first_row = runs_[static_cast<size_t>(first_run)].first_row;
  for (int64_t i = first_run; i < first_run + runs; ++i) active.rows += runs_[static_cast<size_t>(i)].rows;
  return active;
}

int64_t Frame::rows_of(Extent extent) const {
  switch (extent) {
    case Extent::chunk:
      return active_.rows;
    case Extent::head:
      return head_rows_;
    case Extent::frames:
      return frames_;
    case Extent::source:
      return only_run().source_rows;
    case Extent::sequence:
      return active_.runs;
  }
  return 0;
}

int64_t Frame::first_of(Extent extent) const {
  if (extent == Extent::chunk) return active_.first_row;
  return extent == Extent::sequence ? active_.first_run : 0;
}

void Frame::add_run(const FrameRun& run) {
  const auto count = static_cast<int64_t>(run.tokens.size());
  std::copy(run.tokens.begin(), run.tokens.end(), tokens_ + rows_);
  std::fill_n(run_of_ + rows_, count, static_cast<int32_t>(runs_.size()));
  runs_.push_back({run, rows_, count});
  const std::vector<LayerCache>& layers = run.plan->layers;
  for (Angles& angles : angles_) {
    if (layers[static_cast<size_t>(angles.state)].rotary.two_queries()) angles.two_queries = true;
  }
  for (const KeyWindow& window : windows_) {
    const Layout& layout = layers[static_cast<size_t>(window.state)].layout;
    for (int64_t i = 0; i < count; ++i) window.visible[rows_ + i] = layout.row_visibility(run.start + i);
  }
  rows_ += count;
}

void Frame::begin(std::span<const FrameRun> runs, std::span<const Rotary> rotaries, ThreadPool& pool) {
  runs_.clear();
  rows_ = 0;
  head_rows_ = 0;
  for (Angles& angles : angles_) angles.two_queries = false;
  for (const FrameRun& run : runs) add_run(run);
  active_ = narrow(0, static_cast<int64_t>(runs_.size()));
  const bool turns = std::any_of(angles_.begin(), angles_.end(), [](const Angles& a) { return a.rotary != kNone; });
  if (turns) pool.run(rows_, [&](int64_t row, int) { fill_angles(rotaries, row); });
}

void Frame::fill_angles(std::span<const Rotary> rotaries, int64_t row) const {
  const CachePlan& plan = *run(run_of_[row]).plan;
  const int64_t position = this->position(row);
  for (const Angles& angles : angles_) {
    if (angles.rotary == kNone) continue;
    const RotaryPositions& rule = plan.layers[static_cast<size_t>(angles.state)].rotary;
    const Rotary& rotary = rotaries[static_cast<size_t>(angles.rotary)];
    const int64_t at = row * angles.half;
    fill_rotary_row(rotary, rule.key(position), angles.cos + at, angles.sin + at);
    if (!angles.two_queries) continue;
    if (rule.sink_query(position) == rule.key(position)) {
      std::memcpy(angles.sink_cos + at, angles.cos + at, static_cast<size_t>(angles.half) * sizeof(float));
      std::memcpy(angles.sink_sin + at, angles.sin + at, static_cast<size_t>(angles.half) * sizeof(float));
    } else {
      fill_rotary_row(rotary, rule.sink_query(position), angles.sink_cos + at, angles.sink_sin + at);
    }
  }
}

void Frame::select(std::span<const int32_t> rows) {
  std::copy(rows.begin(), rows.end(), selected_);
  head_rows_ = static_cast<int64_t>(rows.size());
}

std::span<const CacheWriteRun> Frame::write_runs(StateId state) {
  write_runs_.clear();
  for (const RunRows& rows : active_runs()) {
    const LayerCache& cache = rows.run.plan->layers[static_cast<size_t>(state)];
    uint8_t* block = rows.run.caches;
    write_runs_.push_back(
        {rows.first_row, rows.rows, rows.run.start, cache.sink_segment(block), cache.ring_segment(block)});
  }
  return write_runs_;
}

std::span<const AttentionRun> Frame::attention_runs(StateId state) {
  const RowVisibility* visible = windows_[window_of_[static_cast<size_t>(state)]].visible;
  attention_runs_.clear();
  for (const RunRows& rows : active_runs()) {
    const LayerCache& cache = rows.run.plan->layers[static_cast<size_t>(state)];
    AttentionRun& attention = attention_runs_.emplace_back();
    attention.first_row = rows.first_row;
    attention.rows = rows.rows;
    attention.sink = cache.sink_segment(rows.run.caches);
    attention.body = cache.ring_segment(rows.run.caches);
    attention.visible = visible + rows.first_row;
  }
  return attention_runs_;
}

std::span<const AttentionRun> Frame::cross_runs(CrossId id) {
  attention_runs_.clear();
  for (const RunRows& rows : active_runs()) {
    const CrossView& cross = rows.run.crosses[static_cast<size_t>(id)];
    std::fill_n(cross_visible_ + rows.first_row, rows.rows, RowVisibility{0, 0, cross.filled});
    AttentionRun& attention = attention_runs_.emplace_back();
    attention.first_row = rows.first_row;
    attention.rows = rows.rows;
    attention.body = cross.segment;
    attention.visible = cross_visible_ + rows.first_row;
  }
  return attention_runs_;
}

}  // namespace kvass
