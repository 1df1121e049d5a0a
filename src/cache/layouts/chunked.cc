// chunked(period, ring): slot = position mod ring. A query sees the keys of its own period of positions, counted from
// 0: k / period = q / period. So a row sees from 1 to `period` keys, and a period forgets the one before it at its
// first position. Source: the chunked attention of Llama 4 (transformers, attention_chunk_size).
#include "cache/layout_rules.h"

namespace kvass {
namespace {

Status check(const LayoutSizes& sizes) {
  KVASS_RETURN_IF_ERROR(check_no_sinks(sizes));
  return check_ring(sizes);
}
int64_t first_seen(const LayoutSizes& sizes, int64_t query) { return query - query % sizes.window; }
int64_t first_query(const LayoutSizes& sizes, int64_t position) {
  return (position + sizes.window - 1) / sizes.window * sizes.window;
}
std::string summary(const LayoutSizes& sizes) { return std::to_string(sizes.window); }
std::string arguments(const LayoutSizes& sizes) {
  return std::to_string(sizes.window) + ", " + std::to_string(sizes.ring);
}

}  // namespace

constinit const LayoutRules chunked_rules = {true, check, first_seen, first_query, summary, arguments};

}  // namespace kvass
