// What makes one kind of layout different from the others: a table of functions for each row of kvass/layouts.inc. What
// all kinds share, the sink part and the ring beyond it, is in layout.cc. Pure functions; nothing is allocated but in
// messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kvass/layout.h"

namespace kvass {

struct LayoutRules {
  bool endless;  // whether the stream may go on when the slots are full
  Status (*check)(const LayoutSizes& sizes);
  // The first position beyond the sinks that a query at `query` may see; less than the number of sinks means that.
  int64_t (*first_seen)(const LayoutSizes& sizes, int64_t query);
  // The least query >= position for which first_seen is at least `position`; kNever where there is none.
  int64_t (*first_query)(const LayoutSizes& sizes, int64_t position);
  std::string (*summary)(const LayoutSizes& sizes);    // for one line of a plan: "4+508"
  std::string (*arguments)(const LayoutSizes& sizes);  // as Layout::<name>(…) takes them
};

inline constexpr int64_t kNever = int64_t{1} << 62;

#define KVASS_LAYOUT(name) extern const LayoutRules name##_rules;
#include "kvass/layouts.inc"

// Bounds every size, so that sums and products of a few of them stay far inside int64.
inline constexpr int64_t kMaxSize = int64_t{1} << 40;
Status check_size(std::string_view what, int64_t value, int64_t least);
Status check_no_sinks(const LayoutSizes& sizes);

// Of layouts with a sliding window: its sizes, and the latest `window` keys.
Status check_ring(const LayoutSizes& sizes);
inline int64_t window_first_seen(const LayoutSizes& sizes, int64_t query) { return query - sizes.window + 1; }
inline int64_t window_first_query(const LayoutSizes& sizes, int64_t position) { return position + sizes.window - 1; }

}  // namespace kvass
