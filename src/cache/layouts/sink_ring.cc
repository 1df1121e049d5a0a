// sink_ring(sink, window, ring): the first `sink` positions for ever, and a ring for those after them. A query sees the
// sinks and its latest `window` keys.
#include "cache/layout_rules.h"

namespace kvass {
namespace {

Status check(const LayoutSizes& sizes) {
  KVASS_RETURN_IF_ERROR(check_size("sink", sizes.sink, 1));
  return check_ring(sizes);
}
std::string summary(const LayoutSizes& sizes) {
  return std::to_string(sizes.sink) + "+" + std::to_string(sizes.window);
}
std::string arguments(const LayoutSizes& sizes) {
  return std::to_string(sizes.sink) + ", " + std::to_string(sizes.window) + ", " + std::to_string(sizes.ring);
}

}  // namespace

constinit const LayoutRules sink_ring_rules = {true, check, window_first_seen, window_first_query, summary, arguments};

}  // namespace kvass
