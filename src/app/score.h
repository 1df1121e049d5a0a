// The job of `kvass score`: negative log-likelihood of a text along a stream. The vocabulary head runs in blocks of
// rows; a chunk's full logits never exist.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "app/open.h"
#include "kvass/score.h"
#include "kvass/status.h"

namespace kvass {

inline constexpr int64_t kScoreHeadRows = 16;  // rows of logits at once: open the stream with these

// `top`: how many of the last position's logits to return. `progress` gets tokens done, and may be empty.
Result<ScoreResult> score(OpenStream& stream, std::span<const int32_t> ids, int64_t top,
                          const std::function<void(int64_t)>& progress, const std::atomic<bool>& cancel);

// -ln p of `token` from row `row` of the session's last step: what score() has for it when it comes next, bit for bit.
Result<double> next_nll(Session& session, int32_t row, int32_t token);

}  // namespace kvass
