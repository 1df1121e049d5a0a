#include "exec/device/tables.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace kvass {
namespace {

constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

template <class T>
size_t table_bytes(int64_t count) {
  return aligned(static_cast<size_t>(count) * sizeof(T));
}

}  // namespace

size_t DeviceTables::bytes(const Program& program, const RowLimits& limits) {
  size_t bytes = 2 * table_bytes<int32_t>(limits.chunk) + table_bytes<int32_t>(limits.head);
  for (const CacheState& state : program.states) {  // as if no layers shared a table
    bytes += 4 * table_bytes<float>(limits.chunk * state.head_dim / 2) + table_bytes<RowVisibility>(limits.chunk) +
             table_bytes<CacheWriteRun>(limits.sequences) + table_bytes<DeviceAttentionRun>(limits.sequences);
  }
  return bytes;
}

Result<DeviceTables> DeviceTables::create(const DeviceRuntime& runtime, const Program& program,
                                          const RowLimits& limits) {
  DeviceTables tables;
  tables.runtime_ = &runtime;
  tables.bytes_ = bytes(program, limits);
  KVASS_ASSIGN_OR_RETURN(tables.there_, DeviceBlock::map(runtime, tables.bytes_));
  KVASS_ASSIGN_OR_RETURN(void* const here, runtime.allocate_host(tables.bytes_));
  tables.here_ = static_cast<uint8_t*>(here);
  tables.layers_.resize(program.states.size());
  return tables;
}

DeviceTables::DeviceTables(DeviceTables&& other) noexcept
    : runtime_(other.runtime_),
      there_(std::move(other.there_)),
      here_(std::exchange(other.here_, nullptr)),
      bytes_(other.bytes_),
      layers_(std::move(other.layers_)) {}

DeviceTables::~DeviceTables() {
  if (here_) runtime_->release_host(here_);
}

template <class T>
T* DeviceTables::take(int64_t count, T** there) {
  T* here = reinterpret_cast<T*>(here_ + used_);
  *there = reinterpret_cast<T*>(there_.data() + used_);
  used_ += table_bytes<T>(count);
  assert(used_ <= bytes_);
  return here;
}

template <class T>
const T* DeviceTables::put(const T* from, int64_t count) {
  if (!from) return nullptr;
  T* there = nullptr;
  T* here = take<T>(count, &there);
  if (count > 0) std::memcpy(here, from, static_cast<size_t>(count) * sizeof(T));
  return there;
}

Status DeviceTables::upload(size_t begin, DeviceStream stream) {
  return runtime_->copy(there_.data() + begin, here_ + begin, used_ - begin, CopyKind::to_device, stream);
}

Status DeviceTables::begin(const Program& program, Frame& frame, DeviceStream stream) {
  used_ = 0;
  rows_ = frame.rows();
  runs_ = frame.active().runs;
  tokens_ = put(frame.tokens(), rows_);
  run_of_ = put(frame.run_of(), rows_);
  for (size_t i = 0; i < program.states.size(); ++i) {
    const auto id = static_cast<StateId>(i);
    Layer& layer = layers_[i];
    const Frame::Angles& angles = frame.angles(id);
    if (const auto first = static_cast<size_t>(angles.state); first < i) {  // it shares the angles of that layer
      layer = layers_[first];
    } else {
      layer.cos = put(angles.cos, rows_ * angles.half);
      layer.sin = put(angles.sin, rows_ * angles.half);
      layer.sink_cos = put(angles.two_queries ? angles.sink_cos : nullptr, rows_ * angles.half);
      layer.sink_sin = put(angles.two_queries ? angles.sink_sin : nullptr, rows_ * angles.half);
    }
    const std::span<const CacheWriteRun> writes = frame.write_runs(id);
    layer.write_runs = put(writes.data(), runs_);
    put_attention(program, frame, id);
  }
  step_end_ = used_;
  return upload(0, stream);
}

// The runs of a layer's attention; what rows see is brought over once for all layers that have a window.
void DeviceTables::put_attention(const Program& program, Frame& frame, StateId id) {
  const auto at = static_cast<size_t>(id);
  const std::span<const AttentionRun> runs = frame.attention_runs(id);
  size_t first = 0;  // the first layer with this window
  while (program.states[first].window != program.states[at].window) ++first;
  Layer& layer = layers_[at];
  layer.visible = first == at ? put(runs.front().visible - runs.front().first_row, rows_) : layers_[first].visible;
  layer.sink_spans = layer.body_spans = most_rows_ = 0;
  DeviceAttentionRun* there = nullptr;
  DeviceAttentionRun* here = take<DeviceAttentionRun>(runs_, &there);
  for (const AttentionRun& run : runs) {
    *here++ = {run.first_row, run.rows, run.sink, run.body, nullptr, nullptr};
    if (run.rows == 0) continue;
    const RowVisibility &top = run.visible[0], &bottom = run.visible[run.rows - 1];  // both ends only move on
    layer.sink_spans = std::max(layer.sink_spans, spans_between(0, bottom.sink_end));
    layer.body_spans = std::max(layer.body_spans, spans_between(std::max(top.begin - run.body.origin, int64_t{0}),
                                                                bottom.end - run.body.origin));
    most_rows_ = std::max(most_rows_, run.rows);
  }
  layer.attention_runs = there;
}

Status DeviceTables::select(const Frame& frame, DeviceStream stream) {
  used_ = step_end_;
  selected_ = put(frame.selected(), frame.head_rows());
  return upload(step_end_, stream);
}

}  // namespace kvass
