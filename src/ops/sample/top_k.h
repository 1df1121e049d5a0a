// The k largest logits of a row in descending order, equal ones by ascending id: the first k of a full sort, without
// sorting everything. NaN is never taken.
#pragma once

#include <cstdint>
#include <span>

namespace kvass {

struct RankedToken {
  int32_t id = 0;
  float logit = 0.0f;
};

// True if a comes before b in the order above.
inline bool ranks_before(const RankedToken& a, const RankedToken& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Writes the first min(out.size(), number of logits that are not NaN) to `out` and returns their number. No allocation.
int64_t top_k(std::span<const float> logits, std::span<RankedToken> out);

}  // namespace kvass
