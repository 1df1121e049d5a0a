#include "kvass/layout.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <string>

#include "base/check_enum.h"
#include "cache/layout_rules.h"

namespace kvass {
namespace {

// Appends positions [begin, end) of `layout` as runs.
void append_runs(const Layout& layout, int64_t begin, int64_t end, std::vector<SlotRun>& runs) {
  if (layout.slots() == 0) return;
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

const LayoutRules& rules(LayoutKind kind) {
  static constexpr const LayoutRules* kRules[] = {
#define KVASS_LAYOUT(name) &name##_rules,
#include "kvass/layouts.inc"
  };
  return *kRules[static_cast<size_t>(kind)];
}

}  // namespace

Status check_size(std::string_view what, int64_t value, int64_t least) {
  if (value >= least && value <= kMaxSize) return {};
  return bad_input(what, "between " + std::to_string(least) + " and 2^40 tokens", std::to_string(value));
}

Status check_no_sinks(const LayoutSizes& sizes) {
  return sizes.sink == 0 ? Status() : bad_input("sink", "0 in such a layout", std::to_string(sizes.sink));
}

Status check_ring(const LayoutSizes& sizes) {
  KVASS_RETURN_IF_ERROR(check_size("window", sizes.window, 1));
  KVASS_RETURN_IF_ERROR(check_size("ring", sizes.ring, 1));
  if (sizes.ring >= sizes.window) return {};
  return bad_input("ring", "at least the window of " + std::to_string(sizes.window) + " slots",
                   std::to_string(sizes.ring));
}

std::string_view layout_kind_name(LayoutKind kind) {
  constexpr std::string_view kNames[] = {
#define KVASS_LAYOUT(name) #name,
#include "kvass/layouts.inc"
  };
  const auto at = static_cast<size_t>(kind);
  return at < std::size(kNames) ? kNames[at] : "?";
}

Result<Layout> Layout::full(int64_t capacity, int64_t window) { return make(LayoutKind::full, {0, window, capacity}); }

Result<Layout> Layout::ring(int64_t window, int64_t ring) { return make(LayoutKind::ring, {0, window, ring}); }

Result<Layout> Layout::sink_ring(int64_t sink, int64_t window, int64_t ring) {
  return make(sink == 0 ? LayoutKind::ring : LayoutKind::sink_ring, {sink, window, ring});
}

Result<Layout> Layout::chunked(int64_t period, int64_t ring) { return make(LayoutKind::chunked, {0, period, ring}); }

Result<Layout> Layout::make(LayoutKind kind, const LayoutSizes& sizes) {
  KVASS_RETURN_IF_ERROR(check_enum("kind", kind, layout_kind_name));
  KVASS_RETURN_IF_ERROR(check_size("sink", sizes.sink, 0));
  KVASS_RETURN_IF_ERROR(rules(kind).check(sizes));
  Layout layout;
  layout.kind_ = kind;
  layout.sizes_ = sizes;
  return layout;
}

bool Layout::endless() const { return rules(kind_).endless; }
std::string Layout::summary() const { return rules(kind_).summary(sizes_); }
std::string Layout::arguments() const { return rules(kind_).arguments(sizes_); }

int64_t Layout::slot(int64_t position) const {
  assert(position >= 0);
  if (sizes_.ring == 0) return -1;
  return position < sizes_.sink ? position : sizes_.sink + (position - sizes_.sink) % sizes_.ring;
}

int64_t Layout::position_at(int64_t slot, int64_t length) const {
  assert(slot >= 0 && slot < slots());
  if (slot < sizes_.sink) return slot < length ? slot : -1;
  const int64_t offset = slot - sizes_.sink;
  const int64_t written = length - sizes_.sink;  // positions that went beyond the sink part
  if (written <= offset) return -1;
  return sizes_.sink + offset + (written - 1 - offset) / sizes_.ring * sizes_.ring;
}

bool Layout::visible(int64_t key, int64_t query) const {
  const RowVisibility row = row_visibility(query);
  return key >= 0 && (key < row.sink_end || (key >= row.begin && key < row.end));
}

RowVisibility Layout::row_visibility(int64_t query) const {
  RowVisibility row;
  row.sink_end = std::min(sizes_.sink, query + 1);
  row.begin = std::max(sizes_.sink, rules(kind_).first_seen(sizes_, query));
  row.end = std::max(row.begin, query + 1);
  return row;
}

int64_t Layout::rewind_floor(int64_t first_held) const {
  return first_held <= sizes_.sink ? 0 : rules(kind_).first_query(sizes_, first_held);
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

int64_t Layout::max_chunk() const { return endless() ? sizes_.ring - sizes_.window + 1 : sizes_.ring; }

Status Layout::check_extend(int64_t length, int64_t start, int64_t count) const {
  if (start != length) {
    return bad_input("position of the next token", std::to_string(length) + " (no gap, no step back)",
                     std::to_string(start));
  }
  if (count < 0) return bad_input("tokens of a step", "0 or more", std::to_string(count));
  if (endless()) {
    // What the step overwrites, up to start + count - 1 - ring, must lie before the first key that its first row sees.
    const int64_t most = sizes_.ring - length + row_visibility(length).begin;
    if (count > most) {
      return bad_input("tokens of a step",
                       "at most " + std::to_string(most) + " (a ring of " + std::to_string(sizes_.ring) +
                           " slots with a window of " + std::to_string(sizes_.window) + ")",
                       std::to_string(count));
    }
  } else if (count > sizes_.ring - length) {
    return Status::error(StatusCode::cache_full,
                         "cache full: expected at most " + std::to_string(sizes_.ring) + " tokens, got " +
                             std::to_string(static_cast<uint64_t>(length) + static_cast<uint64_t>(count)) +
                             "; raise CacheOptions.context, or stream without end with CacheOptions.sinks");
  }
  if (start > std::numeric_limits<int64_t>::max() / 4) {
    return bad_input("position of the next token", "below 2^61", std::to_string(start));
  }
  return {};
}

int64_t ring_slots_for(int64_t window, int64_t chunk) {
  const int64_t in_use = window + chunk - 1;  // positions at once
  return (in_use + 2 * (kTileKeys - 1)) / kTileKeys * kTileKeys;
}

}  // namespace kvass
