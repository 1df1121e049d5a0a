// What a row of logits says of a token: its log-probability and the most probable ones beside it.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "ops/sample/top_k.h"

namespace kvass {

// ln p of a token as the model has it, before penalties and temperature: what score() gives, bit for bit; and the most
// probable tokens at its place, largest first, ties to the lower id.
struct TokenLogprobs {
  int32_t token = -1;
  double logprob = 0.0;
  std::vector<std::pair<int32_t, double>> top;  // [DecodeRequest.logprobs] (id, ln p)
};

// Of logits [vocabulary]. `ranked` is scratch, one for each token of `top`.
void token_logprobs(std::span<const float> logits, int32_t token, Isa isa, std::span<RankedToken> ranked,
                    TokenLogprobs& out);

}  // namespace kvass
