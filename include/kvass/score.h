// How likely a model finds a text: negative log-likelihood token by token, perplexity, and what it would say next.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "kvass/export.h"
#include "kvass/status.h"
#include "kvass/stream.h"

namespace kvass {

struct ScoreOptions {
  int64_t top = 0;                           // how many of the last position's logits to return
  std::function<void(int64_t)> on_progress;  // tokens done, after each chunk
};

// Predictions [begin, end) of a text: prediction i is of token i + 1.
struct ScoreBucket {
  int64_t begin = 0;
  int64_t end = 0;
  double nll = 0.0;  // mean
};

struct ScoreResult {
  std::vector<double> nll;                     // [tokens − 1] −ln p of token i + 1 after tokens 0 … i
  std::vector<std::pair<int32_t, float>> top;  // largest logits of the last position: id, logit
  double seconds = 0.0;

  // Over predictions [begin, end), end > begin.
  double mean_nll(size_t begin, size_t end) const {
    double sum = 0.0;
    for (size_t i = begin; i < end; ++i) sum += nll[i];
    return sum / static_cast<double>(end - begin);
  }
  double perplexity() const { return std::exp(mean_nll(0, nll.size())); }
};

// Appends the tokens to the stream and scores them, a chunk at a time: all logits of a chunk never exist. At least 2
// tokens; cache_full where they do not fit. The stream goes on after them. Cancelled, the code is cancelled and the
// stream has the tokens that have run.
KVASS_API Result<ScoreResult> score(Stream& stream, std::span<const int32_t> ids, const ScoreOptions& options = {},
                                    const std::atomic<bool>* cancel = nullptr);
// Means over buckets of `tokens` predictions, the last one shorter.
KVASS_API std::vector<ScoreBucket> score_buckets(const ScoreResult& result, int64_t tokens);

}  // namespace kvass
