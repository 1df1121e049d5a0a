// Where a position is stored and which keys a query sees: pure integers, no tensors. A Layout is a value; the length of
// the stream (how many positions have been written, 0 … length − 1) belongs to the sequence and is passed in.
//
//     full(capacity)               slot = position; the stream ends at `capacity`
//     ring(window, ring)           slot = position mod ring
//     sink_ring(sink, window, ring) slot = position                               for position < sink
//                                         sink + (position − sink) mod ring      otherwise
//
// Nothing is moved or evicted: a later position overwrites the slot it maps to. Key k is visible to query q when it is
// filled, k <= q, and (k < sink or q − k < window). A slot is logical: how slots lie in memory is tiles.h.
// Source: the attention-sink ring of ExecuTorch (attention_sink.py); StreamingLLM, arXiv 2309.17453.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kvass/export.h"
#include "kvass/status.h"
#include "kvass/tensor.h"
#include "kvass/tiles.h"

namespace kvass {

enum class LayoutKind : uint8_t { full, ring, sink_ring };
KVASS_API std::string_view layout_kind_name(LayoutKind kind);  // "full", "ring", "sink_ring"

// Consecutive positions in consecutive slots.
struct SlotRun {
  int64_t slot = 0;      // of the first
  int64_t count = 0;     // tokens
  int64_t position = 0;  // of the first

  friend bool operator==(const SlotRun&, const SlotRun&) = default;
};

class KVASS_API Layout {
 public:
  Layout() = default;
  // `window` 0: a query of a full layout sees every earlier key; otherwise its latest `window` keys, itself included.
  static Result<Layout> full(int64_t capacity, int64_t window = 0);
  static Result<Layout> ring(int64_t window, int64_t ring);
  static Result<Layout> sink_ring(int64_t sink, int64_t window, int64_t ring);  // sink 0 is a plain ring

  LayoutKind kind() const { return kind_; }
  int64_t sink() const { return sink_; }        // positions kept for ever
  int64_t window() const { return window_; }    // 0: unlimited
  int64_t ring_slots() const { return ring_; }  // slots beyond the sink part (the capacity of a full layout)
  int64_t slots() const { return sink_ + ring_; }
  bool endless() const { return kind_ != LayoutKind::full; }

  int64_t slot(int64_t position) const;                         // position >= 0
  int64_t position_at(int64_t slot, int64_t length) const;      // -1 while unfilled
  bool visible(int64_t key, int64_t query) const;               // key and query are positions that have been written
  RowVisibility row_visibility(int64_t query) const;            // the same, as ranges
  std::vector<int64_t> filled_positions(int64_t length) const;  // [slots] the position in each; -1 while unfilled

  // Where a step of `count` tokens at `start` writes, and what its rows may read together once it is written, both in
  // position order. For a step that check_extend takes.
  std::vector<SlotRun> write_runs(int64_t start, int64_t count) const;
  std::vector<SlotRun> read_runs(int64_t start, int64_t count) const;

  // Going back. Behind the sinks, positions [first_held, length) are in their slots: `first_held` begins at sink(), and
  // after a step up to `length` it is this. Going back does not change it, for what was overwritten stays lost.
  int64_t first_held_after(int64_t first_held, int64_t length) const { return std::max(first_held, length - ring_); }
  // Whether a stream can go on at `length`: all that the row there sees is held. Up to the sinks it sees nothing behind
  // them, and all of that is written anew.
  bool holds(int64_t first_held, int64_t length) const {
    return length <= sink_ || row_visibility(length).begin >= std::min(first_held, length);
  }

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
  int64_t sink_ = 0;
  int64_t window_ = 0;
  int64_t ring_ = 0;
};

// The ring that the planner picks: the fewest whole tiles in which a window and a chunk fit such that the newest and
// the oldest tile in use never share slots, wherever the window begins inside a tile. In slots.
KVASS_API int64_t ring_slots_for(int64_t window, int64_t chunk);

}  // namespace kvass
