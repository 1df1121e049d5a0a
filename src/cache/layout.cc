#include "kvass/layout.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <string>

namespace kvass {
namespace {

// Bounds every size, so that sums and products of a few of them stay far inside int64.
constexpr int64_t kMaxSize = int64_t{1} << 40;

Status check_size(std::string_view what, int64_t value, int64_t least) {
  if (value >= least && value <= kMaxSize) return {};
  return bad_input(what, "between " + std::to_string(least) + " and 2^40 tokens", std::to_string(value));
}

// Appends positions [begin, end) of `layout` as runs.
void append_runs(const Layout& layout, int64_t begin, int64_t end, std::vector<SlotRun>& runs) {
  while (begin < end) {
    const int64_t slot = layout.slot(begin);
    // As far as the sink part or the ring goes before the slots begin anew.
    const int64_t room = begin < layout.sink() ? layout.sink() - begin : layout.slots() - slot;
    const int64_t count = std::min(end - begin, room);
    const bool continues = !runs.empty() && runs.back().slot + runs.back().count == slot &&
                           runs.back().position + runs.back().count == begin;
    if (continues) {
      runs.back().count += count;
    } else {
      runs.push_back({slot, count, begin});
    }
    begin += count;
  }
}

}  // namespace

std::string_view layout_kind_name(LayoutKind kind) {
  switch (kind) {
    case LayoutKind::full:
      return "full";
    case LayoutKind::ring:
      return "ring";
    case LayoutKind::sink_ring:
      return "sink_ring";
  }
  return "?";
}

Result<Layout> Layout::full(int64_t capacity, int64_t window) {
  KVASS_RETURN_IF_ERROR(check_size("full cache capacity", capacity, 1));
  KVASS_RETURN_IF_ERROR(check_size("window", window, 0));
  Layout layout;
  layout.kind_ = LayoutKind::full;
  layout.window_ = window;
  layout.ring_ = capacity;
  return layout;
}

Result<Layout> Layout::ring(int64_t window, int64_t ring) { return sink_ring(0, window, ring); }

Result<Layout> Layout::sink_ring(int64_t sink, int64_t window, int64_t ring) {
  KVASS_RETURN_IF_ERROR(check_size("sink", sink, 0));
  KVASS_RETURN_IF_ERROR(check_size("window", window, 1));
  KVASS_RETURN_IF_ERROR(check_size("ring", ring, 1));
  if (ring < window) {
    return bad_input("ring", "at least the window of " + std::to_string(window) + " slots", std::to_string(ring));
  }
  Layout layout;
  layout.kind_ = sink > 0 ? LayoutKind::sink_ring : LayoutKind::ring;
  layout.sink_ = sink;
  layout.window_ = window;
  layout.ring_ = ring;
  return layout;
}

int64_t Layout::slot(int64_t position) const {
  assert(position >= 0);
  return position < sink_ ? position : sink_ + (position - sink_) % ring_;
}

int64_t Layout::position_at(int64_t slot, int64_t length) const {
  assert(slot >= 0 && slot < slots());
  if (slot < sink_) return slot < length ? slot : -1;
  const int64_t offset = slot - sink_;
  const int64_t written = length - sink_;  // positions that went beyond the sink part
  if (written <= offset) return -1;
  return sink_ + offset + (written - 1 - offset) / ring_ * ring_;
}

bool Layout::visible(int64_t key, int64_t query) const {
  return key >= 0 && key <= query && (key < sink_ || window_ == 0 || query - key < window_);
}

RowVisibility Layout::row_visibility(int64_t query) const {
  RowVisibility row;
  row.sink_end = std::min(sink_, query + 1);
  row.begin = window_ == 0 ? sink_ : std::max(sink_, query - window_ + 1);
  row.end = std::max(row.begin, query + 1);
  return row;
}

std::vector<int64_t> Layout::filled_positions(int64_t length) const {
  std::vector<int64_t> positions;
  positions.reserve(static_cast<size_t>(slots()));
  for (int64_t slot = 0; slot < slots(); ++slot) positions.push_back(position_at(slot, length));
  return positions;
}

std::vector<SlotRun> Layout::write_runs(int64_t start, int64_t count) const {
  std::vector<SlotRun> runs;
  append_runs(*this, start, start + count, runs);
  return runs;
}

std::vector<SlotRun> Layout::read_runs(int64_t start, int64_t count) const {
  std::vector<SlotRun> runs;
  if (count == 0) return runs;
  const RowVisibility first = row_visibility(start);
  const RowVisibility last = row_visibility(start + count - 1);
  append_runs(*this, 0, last.sink_end, runs);
  append_runs(*this, first.begin, last.end, runs);
  return runs;
}

int64_t Layout::max_chunk() const { return endless() ? ring_ - window_ + 1 : ring_; }

Status Layout::check_extend(int64_t length, int64_t start, int64_t count) const {
  if (start != length) {
    return bad_input("position of the next token", std::to_string(length) + " (no gap, no step back)",
                     std::to_string(start));
  }
  if (count < 0) return bad_input("tokens of a step", "0 or more", std::to_string(count));
  if (endless()) {
    // What the step overwrites, up to start + count - 1 - ring, must lie before the first key that its first row sees.
    const int64_t most = std::max(max_chunk(), sink_ + ring_ - length);
    if (count > most) {
      return bad_input("tokens of a step",
                       "at most " + std::to_string(most) + " (a ring of " + std::to_string(ring_) +
                           " slots with a window of " + std::to_string(window_) + ")",
                       std::to_string(count));
    }
  } else if (count > ring_ - length) {
    return Status::error(StatusCode::cache_full,
                         "cache full: expected at most " + std::to_string(ring_) + " tokens, got " +
                             std::to_string(static_cast<uint64_t>(length) + static_cast<uint64_t>(count)) +
                             "; raise CacheOptions.context, or stream without end with CacheOptions.sinks");
  }
  if (start > std::numeric_limits<int64_t>::max() / 4) {
    return bad_input("position of the next token", "below 2^61", std::to_string(start));
  }
  return {};
}

int64_t ring_slots_for(int64_t window, int64_t chunk) {
  const int64_t span = window + chunk - 1;  // positions in use at once
  return (span + 2 * (kTileKeys - 1)) / kTileKeys * kTileKeys;
}

}  // namespace kvass
