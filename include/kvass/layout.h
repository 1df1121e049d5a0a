// Where a position is stored and which keys a query sees: pure integers, no tensors. A Layout is a value; the length of
// the stream (how many positions have been written, 0 … length − 1) belongs to the sequence and is passed in.
//
//     full(capacity)               slot = position; the stream ends at `capacity`
//     ring(window, ring)           slot = position mod ring
//     sink_ring(sink, window, ring) slot = position                               for position < sink
//                                         sink + (position − sink) mod ring      otherwise
//     chunked(period, ring)        slot = position mod ring
//
// Nothing is moved or evicted: a later position overwrites the slot it maps to. Key k is visible to query q when it is
// filled, k <= q, and (k < sink or q − k < window); of `chunked`, when it is in the period of `period` positions that q
// is in. A slot is logical: how slots lie in memory is tiles.h. Source: the attention-sink ring of ExecuTorch
// (attention_sink.py); StreamingLLM, arXiv 2309.17453.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/export.h"
#include "kvass/status.h"
#include "kvass/tensor.h"
#include "kvass/tiles.h"

namespace kvass {

enum class LayoutKind : uint8_t {
#define KVASS_LAYOUT(name) name,
#include "kvass/layouts.inc"
};
inline constexpr LayoutKind kLayoutKinds[] = {
#define KVASS_LAYOUT(name) LayoutKind::name,
#include "kvass/layouts.inc"
};
KVASS_API std::string_view layout_kind_name(LayoutKind kind);  // "full", "ring", …

struct LayoutSizes {
  int64_t sink = 0;    // positions kept for ever
  int64_t window = 0;  // keys beyond the sinks that a query sees at most; 0: unlimited
  int64_t ring = 0;    // slots beyond the sink part

  friend bool operator==(const LayoutSizes&, const LayoutSizes&) = default;
};

// Consecutive positions in consecutive slots.
struct SlotRun {
  int64_t slot = 0;      // of the first
  int64_t count = 0;     // tokens
  int64_t position = 0;  // of the first

  friend bool operator==(const SlotRun&, const SlotRun&) = default;
};

class KVASS_API Layout {
 public:
  Layout() = default;  // without slots: slot() is -1, and no token fits
  // `window` 0: a query of a full layout sees every earlier key; otherwise its latest `window` keys, itself included.
  static Result<Layout> full(int64_t capacity, int64_t window = 0);
  static Result<Layout> ring(int64_t window, int64_t ring);
  static Result<Layout> sink_ring(int64_t sink, int64_t window, int64_t ring);  // sink 0 is a plain ring
  static Result<Layout> chunked(int64_t period, int64_t ring);
  static Result<Layout> make(LayoutKind kind, const LayoutSizes& sizes);

  LayoutKind kind() const { return kind_; }
  int64_t sink() const { return sizes_.sink; }
  int64_t window() const { return sizes_.window; }
  int64_t ring_slots() const { return sizes_.ring; }  // the capacity of a full layout
  int64_t slots() const { return sizes_.sink + sizes_.ring; }
  bool endless() const;
  std::string summary() const;    // "4+508": what there is to say of such a layout in a line
  std::string arguments() const;  // "4, 508, 576": as the function of its name takes them

  int64_t slot(int64_t position) const;                         // position >= 0
  int64_t position_at(int64_t slot, int64_t length) const;      // -1 while unfilled
  bool visible(int64_t key, int64_t query) const;               // key and query are positions that have been written
  RowVisibility row_visibility(int64_t query) const;            // the same, as ranges
  std::vector<int64_t> filled_positions(int64_t length) const;  // [slots], from memory of its own; -1: unfilled

  // Where a step of `count` tokens at `start` writes, and what its rows may read together once it is written, both in
  // position order. For a step that check_extend takes.
  std::vector<SlotRun> write_runs(int64_t start, int64_t count) const;
  std::vector<SlotRun> read_runs(int64_t start, int64_t count) const;

  // Rewinding. After the sinks, positions [first_held, length) are in their slots: `first_held` begins at sink(), and
  // after a step up to `length` it is this. Rewinding does not change it: what was overwritten stays lost.
  int64_t first_held_after(int64_t first_held, int64_t length) const {
    return std::max(first_held, length - sizes_.ring);
  }
  // True if decoding can resume at `length`: every key visible there is still cached. Up to the sinks nothing after
  // them is visible, and all of that is written anew.
  bool holds(int64_t first_held, int64_t length) const {
    return length <= sizes_.sink || row_visibility(length).begin >= std::min(first_held, length);
  }
  // The least length after the sinks at which decoding can always resume; beyond any length where there is none.
  int64_t rewind_floor(int64_t first_held) const;

  // Of keys and values in all slots. What is mapped is a little more: whole tiles (cache_plan.h).
  size_t bytes(int64_t kv_heads, int64_t head_dim, DType dtype) const {
    return static_cast<size_t>(2 * slots() * kv_heads) * head_row_bytes(dtype, head_dim);
  }

  // The longest chunk that loses no key that one of its rows may see, at any position.
  int64_t max_chunk() const;
  // Whether positions [start, start + count) can be written next when the stream has `length` positions: no gap, no
  // step back, and no row of the step loses a key that it may see (before a ring has wrapped, that may be more than
  // max_chunk).
  Status check_extend(int64_t length, int64_t start, int64_t count) const;

  friend bool operator==(const Layout&, const Layout&) = default;

 private:
  LayoutKind kind_ = LayoutKind::full;
  LayoutSizes sizes_;
};

// The ring that the planner picks: the fewest whole tiles in which a window and a chunk fit such that the newest and
// the oldest tile in use never share slots, wherever the window begins inside a tile. In slots.
KVASS_API int64_t ring_slots_for(int64_t window, int64_t chunk);

}  // namespace kvass
