// The sampler of docs/numerics.md, 9: biases, penalties, temperature, sort (ties to the lower id), cuts in the order
// top-k, top-p, min-p, then one draw of Philox4x32-10 keyed by (seed, position). So a token depends on its logits, the
// tokens before it, its position and the seed only, never on how many draws came before.
//
// A Sampler belongs to a sequence. It owns its buffers and the last tokens for the penalty; sampling allocates nothing.
//
// The weights are integers, w = rint(exp((logit - max) · (1 / temperature)) · 2^44) computed in double, so that sums do
// not depend on their order and a draw is exact: r = (64 random bits · Σw) >> 64, and the first token in sorted order
// whose running sum exceeds r is drawn. (A token whose probability is below 2^-45 of the largest is never drawn.)
// Tokens are sorted by their logits before the division by the temperature: the division keeps the order but could make
// ties. NaN is never chosen. If the largest logit is infinite, the lowest id with that logit is chosen.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "kernels/argmax/argmax.h"
#include "kvass/sampling.h"
#include "kvass/status.h"
#include "ops/sample/top_k.h"

namespace kvass {

// Makes tokens that a text has generated already less likely, by how often it has: frequency · count + presence is
// taken from their logits, after the biases and the repeat penalty (OpenAI's frequency_penalty and presence_penalty).
struct OutputPenalties {
  float frequency = 0.0f, presence = 0.0f;
  bool any() const { return frequency != 0.0f || presence != 0.0f; }
};

class Sampler {
 public:
  // `vocabulary` in [1, 2^19]. Fails on options that validate() refuses.
  static Result<Sampler> create(const SampleOptions& options, int64_t vocabulary, Isa isa);

  // Appends a token of the stream, prompt included, for the repeat penalty. Ids in [0, vocabulary).
  void accept(int32_t token);
  void accept(std::span<const int32_t> tokens);
  // The same of a token that the text has generated, which output penalties count.
  void accept_generated(int32_t token);
  void set_output_penalties(const OutputPenalties& penalties);  // before the first token
  void reset();                                                 // forgets the tokens
  // Makes this the sampler of another stream, with this seed.
  void reset(uint64_t seed) {
    reset();
    options_.seed = seed;
  }
  // The recent tokens, oldest first. A new sampler with the same options that accepts them has the state of this one.
  // Empty without a penalty.
  std::vector<int32_t> recent() const;

  // Chooses the token at `position` from the logits [vocabulary] of the row before it. -1 if every logit is NaN. Does
  // not change `logits` and does not accept the token.
  int32_t sample(const float* logits, int64_t position);
  // True if the result is always the argmax of the logits (kernels/argmax).
  bool takes_argmax() const { return changed_.empty() && (options_.temperature == 0.0f || options_.top_k == 1); }

  const SampleOptions& options() const { return options_; }

 private:
  Sampler() = default;
  const float* change(const float* logits);
  int32_t draw(const float* logits, const Argmax& best, int64_t position);
  int64_t gather(std::span<const float> logits);

  SampleOptions options_;
  int64_t vocabulary_ = 0;
  ArgmaxKernel argmax_ = nullptr;
  std::vector<int32_t> recent_;  // [repeat_last_n] ring of accepted tokens; empty if there is no penalty
  int64_t accepted_ = 0;         // number of tokens accepted so far
  std::vector<float> changed_;   // [vocabulary]; empty without a bias and penalties
  OutputPenalties penalties_;
  std::vector<int32_t> counts_;          // [vocabulary] of generated tokens; empty without output penalties
  std::vector<int32_t> generated_;       // those that have a count, each once
  std::vector<RankedToken> candidates_;  // [top_k or vocabulary]; empty if greedy
};

}  // namespace kvass
