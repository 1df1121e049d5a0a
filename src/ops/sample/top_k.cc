#include "ops/sample/top_k.h"

#include <algorithm>

namespace kvass {
namespace {

// True if any of 64 logits exceeds the bar. It nearly never does; compilers vectorise this loop.
bool any_above(const float* x, float bar) {
  int count = 0;
  for (int i = 0; i < 64; ++i) count += x[i] > bar;
  return count != 0;
}

}  // namespace

int64_t top_k(std::span<const float> logits, std::span<RankedToken> out) {
  const int64_t n = static_cast<int64_t>(logits.size());
  const int64_t k = static_cast<int64_t>(out.size());
  if (k == 0) return 0;
  int64_t taken = 0;
  int64_t i = 0;
  for (; i < n && taken < k; ++i) {
    if (logits[i] == logits[i]) out[taken++] = {static_cast<int32_t>(i), logits[i]};
  }
  // A heap whose front is the lowest-ranked kept token. Later ids lose ties, so only a larger logit can enter.
  const auto begin = out.begin();
  const auto end = begin + taken;
  std::make_heap(begin, end, ranks_before);
  while (i < n) {
    if (n - i >= 64 && !any_above(logits.data() + i, out[0].logit)) {
      i += 64;
      continue;
    }
    const int64_t stop = std::min(n, i + 64);
    for (; i < stop; ++i) {
      if (!(logits[i] > out[0].logit)) continue;
      std::pop_heap(begin, end, ranks_before);
      *(end - 1) = {static_cast<int32_t>(i), logits[i]};
      std::push_heap(begin, end, ranks_before);
    }
  }
  std::sort(begin, end, ranks_before);
  return taken;
}

}  // namespace kvass
