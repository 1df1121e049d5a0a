// full(capacity, window): every position in its own slot until the capacity is reached. A query sees every earlier key
// or, with a window, its latest ones.
#include "cache/layout_rules.h"

namespace kvass {
namespace {

Status check(const LayoutSizes& sizes) {
  KVASS_RETURN_IF_ERROR(check_no_sinks(sizes));
  KVASS_RETURN_IF_ERROR(check_size("full cache capacity", sizes.ring, 1));
  return check_size("window", sizes.window, 0);
}
int64_t first_seen(const LayoutSizes& sizes, int64_t query) {
  return sizes.window == 0 ? 0 : window_first_seen(sizes, query);
}
int64_t first_query(const LayoutSizes& sizes, int64_t position) {
  if (sizes.window == 0) return position == 0 ? 0 : kNever;
  return window_first_query(sizes, position);
}
std::string summary(const LayoutSizes& sizes) { return std::to_string(sizes.ring); }
std::string arguments(const LayoutSizes& sizes) {
  return std::to_string(sizes.ring) + ", window=" + std::to_string(sizes.window);
}

}  // namespace

constinit const LayoutRules full_rules = {false, check, first_seen, first_query, summary, arguments};

}  // namespace kvass
