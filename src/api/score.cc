// include/kvass/score.h.
#include "kvass/score.h"

#include <algorithm>
#include <optional>

#include "api/stream_impl.h"
#include "app/score.h"

namespace kvass {

Result<ScoreResult> score(Stream& stream, std::span<const int32_t> ids, const ScoreOptions& options,
                          const std::atomic<bool>* cancel) {
  return alone(stream.impl(), [&](Stream::Impl& impl) -> Result<ScoreResult> {
    static const std::atomic<bool> never{false};
    if (options.top < 0) return bad_input("ScoreOptions.top", "0 or more", std::to_string(options.top));
    const int64_t vocabulary = impl.group->model.info().vocabulary;
    for (const int32_t token : ids) {
      if (token < 0 || token >= vocabulary) {
        return bad_input("token", "0 to " + std::to_string(vocabulary - 1), std::to_string(token));
      }
    }
    KVASS_RETURN_IF_ERROR(impl.run_pending(cancel));
    const int64_t before = impl.sequence().length();
    const auto moved = [&] {
      if (impl.sequence().length() == before) return false;
      ++impl.group->steps;
      ++impl.changes;
      impl.forget_text();
      return true;
    };
    std::optional<Result<ScoreResult>> scored;
    try {
      scored.emplace(score(impl.stream, ids, options.top, options.on_progress, cancel ? *cancel : never));
    } catch (...) {  // of on_progress
      moved();
      throw;
    }
    Result<ScoreResult>& result = *scored;
    if (!moved() || !result.ok()) return std::move(result);
    impl.row = static_cast<int32_t>((ids.size() - 1) % static_cast<size_t>(impl.sequence().plan().chunk));
    impl.row_step = impl.group->steps;
    impl.last_token = ids.back();
    return std::move(result);
  });
}

std::vector<ScoreBucket> score_buckets(const ScoreResult& result, int64_t tokens) {
  std::vector<ScoreBucket> buckets;
  const auto count = static_cast<int64_t>(result.nll.size());
  for (int64_t begin = 0; tokens > 0 && begin < count; begin += tokens) {
    const int64_t end = std::min(count, begin + tokens);
    buckets.push_back({begin, end, result.mean_nll(static_cast<size_t>(begin), static_cast<size_t>(end))});
  }
  return buckets;
}

}  // namespace kvass
