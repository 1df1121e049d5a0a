#include "ops/sample/sample.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <string>

#include "kernels/functions64.h"
#include "ops/sample/philox.h"

namespace kvass {
namespace {

constexpr int64_t kVocabularyLimit = int64_t{1} << 19;  // times 2^44 stays below 2^63
constexpr int kRepeatLimit = 1 << 20;
constexpr size_t kFirstSorted = 256;  // number of tokens that are sorted first if there is no top-k

// rint(exp(distance) · 2^44) for distance <= 0: adding 2^52 rounds and leaves the integer in the low bits. T is double
// or Double4.
template <class T>
inline typename BitsOf<T>::Type weight_of(T distance) {
  const T shifted = fma64(exp64(distance), T{} + 0x1p44, T{} + 0x1p52);
  return std::bit_cast<typename BitsOf<T>::Type>(shifted) - std::bit_cast<uint64_t>(0x1p52);
}

// Sums of weights: of all tokens, and of tokens whose weight is at least `least`.
struct Totals {
  uint64_t all = 0;
  uint64_t heavy = 0;
};

// Turns a logit into a weight in this draw.
struct Weigher {
  double maximum;  // the largest logit
  double inverse_temperature;
  uint64_t operator()(const RankedToken& token) const {
    return weight_of((static_cast<double>(token.logit) - maximum) * inverse_temperature);
  }
};

Totals sum_weights(const float* logits, int64_t n, const Weigher& weigher, uint64_t least) {
  Bits4 all = {};
  Bits4 heavy = {};
  for (int64_t i = 0; i < n; i += 4) {
    Double4 x;
    for (int64_t lane = 0; lane < 4; ++lane) x[lane] = i + lane < n ? logits[i + lane] : -__builtin_inff();
    x = x <= weigher.maximum ? x : Double4{} - __builtin_inf();  // NaN weighs nothing
    const Bits4 weights = weight_of((x - weigher.maximum) * weigher.inverse_temperature);
    all += weights;
    heavy += weights >= least ? weights : Bits4{};
  }
  return {all[0] + all[1] + all[2] + all[3], heavy[0] + heavy[1] + heavy[2] + heavy[3]};
}

Totals sum_weights(std::span<const RankedToken> tokens, const Weigher& weigher, uint64_t least) {
  Totals totals;
  for (const RankedToken& token : tokens) {
    const uint64_t weight = weigher(token);
    totals.all += weight;
    totals.heavy += weight >= least ? weight : 0;
  }
  return totals;
}

// A token, and the sum of the weights of the sorted tokens up to it.
struct Reached {
  int32_t id = -1;  // -1: none reaches the bound
  uint64_t sum = 0;
};

// The first token in sorted order at which the running sum reaches `bound`; the sum of all if none does.
Reached walk(std::span<const RankedToken> sorted, const Weigher& weigher, uint64_t bound, uint64_t before = 0) {
  Reached reached{-1, before};
  for (const RankedToken& token : sorted) {
    reached.sum += weigher(token);
    if (reached.sum >= bound) {
      reached.id = token.id;
      break;
    }
  }
  return reached;
}

// The same for unsorted tokens: divides them into halves and continues in the half that has the answer. It is exact,
// because the sums are integers.
Reached select(std::span<RankedToken> tokens, const Weigher& weigher, uint64_t bound) {
  uint64_t before = 0;
  while (tokens.size() > 64) {
    const size_t middle = tokens.size() / 2;
    std::nth_element(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(middle), tokens.end(), ranks_before);
    const uint64_t upper = sum_weights(tokens.first(middle), weigher, 0).all;
    if (before + upper >= bound) {
      tokens = tokens.first(middle);
    } else {
      before += upper;
      tokens = tokens.subspan(middle);
    }
  }
  std::sort(tokens.begin(), tokens.end(), ranks_before);
  return walk(tokens, weigher, bound, before);
}

uint64_t scaled_bits(uint64_t bits, uint64_t total) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * total) >> 64);
}

}  // namespace

Status validate(const SampleOptions& options) {
  if (!(options.temperature >= 0.0f && std::isfinite(options.temperature))) {
    return bad_input("SampleOptions.temperature", "0 (greedy) or a positive number",
                     std::to_string(options.temperature));
  }
  if (options.top_k < 0) {
    return bad_input("SampleOptions.top_k", "0 (all) or a positive count of tokens", std::to_string(options.top_k));
  }
  if (!(options.top_p > 0.0f && options.top_p <= 1.0f)) {
    return bad_input("SampleOptions.top_p", "a probability above 0 and at most 1", std::to_string(options.top_p));
  }
  if (!(options.min_p >= 0.0f && options.min_p <= 1.0f)) {
    return bad_input("SampleOptions.min_p", "a probability in [0, 1]", std::to_string(options.min_p));
  }
  if (!(options.repeat_penalty > 0.0f && std::isfinite(options.repeat_penalty))) {
    return bad_input("SampleOptions.repeat_penalty", "a positive number (1: none)",
                     std::to_string(options.repeat_penalty));
  }
  if (options.repeat_last_n < 0 || options.repeat_last_n > kRepeatLimit) {
    return bad_input("SampleOptions.repeat_last_n", "a count of tokens in [0, 1048576]",
                     std::to_string(options.repeat_last_n));
  }
  for (const LogitBias& one : options.logit_bias) {
    if (one.id >= 0 && one.bias < HUGE_VALF) continue;  // minus infinity is one, NaN is not
    return bad_input("SampleOptions.logit_bias", "a token's id and a number below infinity",
                     std::to_string(one.id) + ", " + std::to_string(one.bias));
  }
  return {};
}

Result<Sampler> Sampler::create(const SampleOptions& options, int64_t vocabulary, Isa isa) {
  KVASS_RETURN_IF_ERROR(validate(options));
  if (vocabulary < 1 || vocabulary > kVocabularyLimit) {
    return bad_input("sampler vocabulary", "a size in [1, 524288]", std::to_string(vocabulary));
  }
  for (const LogitBias& one : options.logit_bias) {
    if (one.id < vocabulary) continue;
    return bad_input("SampleOptions.logit_bias", "an id below " + std::to_string(vocabulary), std::to_string(one.id));
  }
  Sampler sampler;
  sampler.options_ = options;
  sampler.vocabulary_ = vocabulary;
  sampler.argmax_ = argmax_for(isa);
  if (options.repeat_penalty != 1.0f && options.repeat_last_n > 0) {
    sampler.recent_.resize(static_cast<size_t>(options.repeat_last_n));
  }
  if (!sampler.recent_.empty() || !options.logit_bias.empty()) {
    sampler.changed_.resize(static_cast<size_t>(vocabulary));
  }
  if (options.temperature > 0.0f) {
    const int64_t kept = options.top_k > 0 ? std::min<int64_t>(options.top_k, vocabulary) : vocabulary;
    sampler.candidates_.resize(static_cast<size_t>(kept));
  }
  return sampler;
}

void Sampler::accept(int32_t token) {
  assert(token >= 0 && token < vocabulary_);
  if (recent_.empty()) return;
  recent_[static_cast<size_t>(accepted_ % static_cast<int64_t>(recent_.size()))] = token;
  ++accepted_;
}

void Sampler::accept(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) accept(token);
}

void Sampler::accept_generated(int32_t token) {
  accept(token);
  if (counts_.empty()) return;
  if (counts_[static_cast<size_t>(token)]++ == 0) generated_.push_back(token);
}

void Sampler::set_output_penalties(const OutputPenalties& penalties) {
  penalties_ = penalties;
  if (!penalties.any()) return;
  counts_.assign(static_cast<size_t>(vocabulary_), 0);
  generated_.reserve(static_cast<size_t>(vocabulary_));
  changed_.resize(static_cast<size_t>(vocabulary_));
}

void Sampler::reset() {
  accepted_ = 0;
  for (const int32_t token : generated_) counts_[static_cast<size_t>(token)] = 0;
  generated_.clear();
}

std::vector<int32_t> Sampler::recent() const {
  const int64_t size = static_cast<int64_t>(recent_.size());
  std::vector<int32_t> tokens;
  for (int64_t i = std::max<int64_t>(0, accepted_ - size); i < accepted_; ++i) {
    tokens.push_back(recent_[static_cast<size_t>(i % size)]);
  }
  return tokens;
}

// A copy of the logits with the biases added, then the recent tokens penalised, each of them once, then the generated.
const float* Sampler::change(const float* logits) {
  const int64_t known = std::min(accepted_, static_cast<int64_t>(recent_.size()));
  if (known == 0 && options_.logit_bias.empty() && generated_.empty()) return logits;
  std::memcpy(changed_.data(), logits, static_cast<size_t>(vocabulary_) * sizeof(float));
  for (const LogitBias& one : options_.logit_bias) changed_[static_cast<size_t>(one.id)] += one.bias;
  const auto biased = [&](size_t token) {
    float logit = logits[token];
    for (const LogitBias& one : options_.logit_bias) {
      if (static_cast<size_t>(one.id) == token) logit += one.bias;
    }
    return logit;
  };
  for (int64_t i = 0; i < known; ++i) {
    const size_t token = static_cast<size_t>(recent_[static_cast<size_t>(i)]);
    const float logit = biased(token);
    changed_[token] = logit > 0.0f ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
  }
  for (const int32_t token : generated_) {
    const auto count = static_cast<float>(counts_[static_cast<size_t>(token)]);
    changed_[static_cast<size_t>(token)] -= penalties_.frequency * count + penalties_.presence;
  }
  return changed_.data();
}

int32_t Sampler::sample(const float* logits, int64_t position) {
  const float* row = change(logits);
  const Argmax best = argmax_(row, vocabulary_);
  if (options_.temperature == 0.0f || options_.top_k == 1 || best.index < 0 || std::isinf(best.value)) {
    return static_cast<int32_t>(best.index);
  }
  return draw(row, best, position);
}

int32_t Sampler::draw(const float* logits, const Argmax& best, int64_t position) {
  const Weigher weigher{best.value, 1.0 / static_cast<double>(options_.temperature)};
  const std::span<const float> row(logits, static_cast<size_t>(vocabulary_));
  const std::span<RankedToken> buffer(candidates_);
  const bool every = static_cast<int64_t>(buffer.size()) == vocabulary_;  // no top-k
  const uint64_t least = static_cast<uint64_t>(std::ceil(static_cast<double>(options_.min_p) * 0x1p44));

  // Without top-k only the few largest logits are sorted; they nearly always have the answer. If not, all tokens are
  // gathered.
  const size_t few = every ? std::min(kFirstSorted, buffer.size()) : buffer.size();
  const std::span<RankedToken> sorted = buffer.first(static_cast<size_t>(top_k(row, buffer.first(few))));
  const Totals totals = every ? sum_weights(logits, vocabulary_, weigher, least) : sum_weights(sorted, weigher, least);
  std::span<RankedToken> gathered;
  const auto find = [&](uint64_t bound) {
    if (gathered.empty()) {
      const Reached reached = walk(sorted, weigher, bound);
      if (reached.id >= 0 || !every) return reached;
      gathered = buffer.first(static_cast<size_t>(gather(row)));
    }
    return select(gathered, weigher, bound);
  };

  // Each cut keeps a prefix of the sorted tokens, so both together keep the shorter prefix.
  uint64_t kept = totals.heavy;
  if (options_.top_p < 1.0f) {
    const double enough = static_cast<double>(options_.top_p) * static_cast<double>(totals.all);
    kept = std::min(kept, find(static_cast<uint64_t>(std::ceil(enough))).sum);
  }
  const Reached drawn = find(scaled_bits(random_bits(options_.seed, position), kept) + 1);
  assert(drawn.id >= 0);
  return drawn.id;
}

// Writes all tokens whose logit is not NaN to candidates_, in the order of their ids.
int64_t Sampler::gather(std::span<const float> logits) {
  int64_t count = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates_[static_cast<size_t>(count)] = {static_cast<int32_t>(i), logits[i]};
    count += logits[i] == logits[i];
  }
  return count;
}

}  // namespace kvass
