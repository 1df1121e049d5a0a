#include "app/speech_rules.h"

#include <algorithm>
#include <limits>

#include "ops/loss/loss.h"

namespace kvass {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

}  // namespace

void SpeechRules::apply(std::span<const int32_t> written, std::span<float> logits) const {
  const auto forbid = [&](int32_t begin, int32_t end) {
    std::fill(logits.begin() + begin, logits.begin() + end, kNever);
  };
  for (const int32_t id : suppressed) logits[static_cast<size_t>(id)] = kNever;
  if (written.empty()) {
    for (const int32_t id : suppressed_first) logits[static_cast<size_t>(id)] = kNever;
  }
  const auto size = static_cast<int32_t>(logits.size());
  const int32_t begin = tokenizer->timestamp_begin();
  logits[static_cast<size_t>(tokenizer->no_timestamps())] = kNever;
  if (!timestamps) return forbid(begin, size);
  if (written.empty()) {
    forbid(0, begin);
    return forbid(std::min(size, begin + max_initial_timestamp + 1), size);
  }
  const int32_t last = written.back();
  if (last >= begin) {
    const bool pair = written.size() < 2 || written[written.size() - 2] >= begin;
    if (pair) return forbid(begin, size);  // text follows
    forbid(0, tokenizer->end_of_text());
    forbid(begin, last);
  } else {
    const auto before = std::find_if(written.rbegin(), written.rend(), [&](int32_t id) { return id >= begin; });
    if (before != written.rend()) forbid(begin, *before + 1);
  }
  const float likeliest = *std::max_element(logits.begin(), logits.begin() + begin);
  if (log_sum_exp(logits.data() + begin, size - begin, isa) > static_cast<double>(likeliest)) forbid(0, begin);
}

}  // namespace kvass
