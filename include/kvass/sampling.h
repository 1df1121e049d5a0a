// How the next token is chosen: the options, and TokenSampler for callers who write their own loop. generate.h has the
// loop. A token depends on its logits, the tokens before it, its position and the seed only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kvass/export.h"
#include "kvass/status.h"

namespace kvass {

class Model;

// Added to the logit of a token, before everything else; minus infinity: never chosen.
struct LogitBias {
  int32_t id = 0;
  float bias = 0.0f;
  bool operator==(const LogitBias&) const = default;
};

struct SampleOptions {
  float temperature = 0.0f;     // 0: the largest logit (greedy); otherwise logits are divided by it
  int top_k = 0;                // keep this many tokens; 0: all
  float top_p = 1.0f;           // (0, 1]: keep the fewest most probable tokens whose probabilities sum to it; 1: all
  float min_p = 0.0f;           // [0, 1]: keep tokens with at least this share of the largest probability; 0: all
  float repeat_penalty = 1.0f;  // > 0: positive logits of recent tokens are divided by it, others multiplied
  int repeat_last_n = 64;       // number of latest tokens that count as recent
  uint64_t seed = 0;
  std::vector<LogitBias> logit_bias = {};  // a token that stands there twice gets both
};

// Every field in its range; otherwise bad_input that names it.
KVASS_API Status validate(const SampleOptions& options);

// The sampler of one stream. One caller at a time. Not copied, moved freely.
class KVASS_API TokenSampler {
 public:
  static Result<TokenSampler> create(const Model& model, const SampleOptions& options);
  TokenSampler(TokenSampler&&) noexcept;
  TokenSampler& operator=(TokenSampler&&) noexcept;
  ~TokenSampler();

  // Tokens of the stream in order, the prompt included: what the repeat penalty looks back at. bad_input where one is
  // not a token of the model.
  Status accept(std::span<const int32_t> tokens);
  // The token that stands at `position` (Stream::length() of the stream that gave the logits), from logits
  // [vocabulary]. It is not accepted by itself. bad_input where all logits are NaN, or where they are of another size.
  Result<int32_t> sample(std::span<const float> logits, int64_t position);

 private:
  struct KVASS_HIDDEN Impl;
  explicit TokenSampler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvass
