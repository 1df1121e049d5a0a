#include "app/token_logprobs.h"

#include "ops/loss/loss.h"

namespace kvass {

void token_logprobs(std::span<const float> logits, int32_t token, Isa isa, std::span<RankedToken> ranked,
                    TokenLogprobs& out) {
  CrossEntropyArgs args;
  double loss = 0.0;
  args.logits = logits.data();
  args.targets = &token;
  args.losses = &loss;
  args.rows = 1;
  args.vocabulary = args.stride = static_cast<int64_t>(logits.size());
  cross_entropy(args, isa);
  out.token = token;
  out.logprob = -loss;
  out.top.clear();
  const double sum = static_cast<double>(logits[static_cast<size_t>(token)]) + loss;
  const int64_t found = top_k(logits, ranked);
  for (int64_t i = 0; i < found; ++i) {
    const RankedToken& one = ranked[static_cast<size_t>(i)];
    out.top.emplace_back(one.id, one.id == token ? -loss : static_cast<double>(one.logit) - sum);
  }
}

}  // namespace kvass
