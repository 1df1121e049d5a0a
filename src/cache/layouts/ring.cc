// ring(window, ring): slot = position mod ring. A query sees its latest `window` keys.
#include "cache/layout_rules.h"

namespace kvass {
namespace {

Status check(const LayoutSizes& sizes) {
  KVASS_RETURN_IF_ERROR(check_no_sinks(sizes));
  return check_ring(sizes);
}
std::string summary(const LayoutSizes& sizes) { return std::to_string(sizes.window); }
std::string arguments(const LayoutSizes& sizes) {
  return std::to_string(sizes.window) + ", " + std::to_string(sizes.ring);
}

}  // namespace

constinit const LayoutRules ring_rules = {true, check, window_first_seen, window_first_query, summary, arguments};

}  // namespace kvass
