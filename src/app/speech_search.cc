#include "app/speech_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "ops/loss/loss.h"
#include "ops/sample/sample.h"
#include "ops/sample/top_k.h"

namespace kvass {
namespace {

struct Beam {
  std::vector<int32_t> tokens;
  double score = 0.0;  // log-probability
};

struct Candidate {
  double score = 0.0;
  int32_t parent = 0;
  int32_t token = 0;

  // Of equals the earlier sequence, then the lower id.
  bool before(const Candidate& other) const {
    if (score != other.score) return score > other.score;
    return parent != other.parent ? parent < other.parent : token < other.token;
  }
};

double normalised(const Beam& beam, double length_penalty) {
  return beam.score / std::pow(static_cast<double>(std::max<size_t>(beam.tokens.size(), 1)), length_penalty);
}

class Search {
 public:
  Search(SpeechDecoder& decoder, const SpeechRules& rules, const SearchOptions& options, int64_t most)
      : decoder_(decoder),
        rules_(rules),
        options_(options),
        vocabulary_(static_cast<size_t>(decoder.vocabulary())),
        most_(most),
        row_(vocabulary_),
        top_(static_cast<size_t>(2 * options.beam_size)) {}

  Result<Beam> beams(std::span<const float> logits) {
    const auto width = static_cast<size_t>(options_.beam_size);
    const auto enough = static_cast<size_t>(std::lround(static_cast<double>(width) * options_.patience));
    const int32_t end = rules_.tokenizer->end_of_text();
    std::vector<Beam> live(1);
    std::vector<Beam> done;
    for (int64_t step = 0; step < most_; ++step) {
      const bool last_step = step + 1 == most_;
      candidates_.clear();
      for (size_t i = 0; i < live.size(); ++i) add_candidates(live, i, logits.subspan(i * vocabulary_, vocabulary_));
      keep_best(2 * width);
      const auto grown = [&](const Candidate& candidate) {
        Beam beam{live[static_cast<size_t>(candidate.parent)].tokens, candidate.score};
        if (candidate.token != end) beam.tokens.push_back(candidate.token);
        return beam;
      };
      std::vector<Candidate> kept;
      size_t spare = width;
      bool first_ends = false;
      for (size_t k = 0; k < std::min(width, candidates_.size()); ++k) {
        if (candidates_[k].token != end && !last_step) {
          kept.push_back(candidates_[k]);
          continue;
        }
        done.push_back(grown(candidates_[k]));
        if (k == 0) first_ends = true;
        while (spare < candidates_.size() && candidates_[spare].token == end) ++spare;
        if (spare < candidates_.size()) kept.push_back(candidates_[spare++]);
      }
      // Without a penalty for short texts nothing that comes later can beat a best sequence that has ended.
      const bool finished = options_.length_penalty == 0.0 ? first_ends : done.size() >= enough;
      if (last_step || finished || kept.empty()) break;
      std::vector<Beam> next;
      std::vector<int32_t> parents;
      std::vector<int32_t> tokens;
      for (const Candidate& candidate : kept) {
        next.push_back(grown(candidate));
        parents.push_back(candidate.parent);
        tokens.push_back(candidate.token);
      }
      live = std::move(next);
      KVASS_ASSIGN_OR_RETURN(logits, decoder_.step(parents, tokens));
    }
    return best(std::move(done));
  }

  // Greedy is one text at temperature 0.
  Result<Beam> samples(std::span<const float> logits, int64_t position) {
    const bool greedy = options_.temperature == 0.0f;
    const auto count = static_cast<size_t>(greedy ? 1 : options_.best_of);
    std::vector<Sampler> samplers;
    for (size_t i = 0; i < count; ++i) {
      SampleOptions sampling;
      sampling.temperature = options_.temperature;
      sampling.seed = options_.seed + i;
      KVASS_ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(sampling, static_cast<int64_t>(vocabulary_), rules_.isa));
      samplers.push_back(std::move(sampler));
    }
    const int32_t end = rules_.tokenizer->end_of_text();
    std::vector<Beam> texts(count);
    std::vector<size_t> live(count);  // index of its text
    for (size_t i = 0; i < count; ++i) live[i] = i;
    for (int64_t step = 0; step < most_; ++step) {
      std::vector<size_t> going;
      std::vector<int32_t> parents;
      std::vector<int32_t> tokens;
      for (size_t i = 0; i < live.size(); ++i) {
        Beam& text = texts[live[i]];
        const size_t from = step == 0 ? 0 : i;  // one sequence until the texts differ
        const double total = filtered(text.tokens, logits.subspan(from * vocabulary_, vocabulary_));
        const int32_t token = samplers[live[i]].sample(row_.data(), position + step);
        if (token < 0) return bad_input("logits", "numbers", "NaN");
        text.score += static_cast<double>(row_[static_cast<size_t>(token)]) - total;
        if (token == end) continue;
        text.tokens.push_back(token);
        going.push_back(live[i]);
        parents.push_back(static_cast<int32_t>(from));
        tokens.push_back(token);
      }
      live = std::move(going);
      if (live.empty() || step + 1 == most_) break;
      KVASS_ASSIGN_OR_RETURN(logits, decoder_.step(parents, tokens));
    }
    return best(std::move(texts));
  }

 private:
  // The logits after the rules into row_; their log of the sum of exponentials.
  double filtered(std::span<const int32_t> written, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(), row_.begin());
    rules_.apply(written, row_);
    return log_sum_exp(row_.data(), static_cast<int64_t>(vocabulary_), rules_.isa);
  }

  void add_candidates(const std::vector<Beam>& live, size_t at, std::span<const float> logits) {
    const double total = filtered(live[at].tokens, logits);
    const int64_t found = top_k(row_, top_);
    for (const RankedToken& token : std::span(top_).first(static_cast<size_t>(found))) {
      if (!(token.logit > -INFINITY)) break;
      candidates_.push_back(
          {live[at].score + (static_cast<double>(token.logit) - total), static_cast<int32_t>(at), token.id});
    }
  }

  void keep_best(size_t count) {
    std::sort(candidates_.begin(), candidates_.end(),
              [](const Candidate& a, const Candidate& b) { return a.before(b); });
    if (candidates_.size() > count) candidates_.resize(count);
  }

  Result<Beam> best(std::vector<Beam> beams) const {
    if (beams.empty()) return bad_input("logits", "a token that may be written", "none");
    size_t found = 0;
    for (size_t i = 1; i < beams.size(); ++i) {
      if (normalised(beams[i], options_.length_penalty) > normalised(beams[found], options_.length_penalty)) found = i;
    }
    return std::move(beams[found]);
  }

  SpeechDecoder& decoder_;
  const SpeechRules& rules_;
  const SearchOptions& options_;
  size_t vocabulary_;
  int64_t most_;  // tokens to write
  std::vector<float> row_;
  std::vector<RankedToken> top_;
  std::vector<Candidate> candidates_;
};

}  // namespace

Result<SearchResult> search(SpeechDecoder& decoder, std::span<const int32_t> prompt, const SpeechRules& rules,
                            const SearchOptions& options) {
  const SpeechTokenizer& tokenizer = *rules.tokenizer;
  const auto length = static_cast<int64_t>(prompt.size());
  // Half of the context is for what is written, as long as the prompt leaves it.
  const int64_t most = std::min(decoder.context() / 2, decoder.context() - length + 1);
  const auto start = std::find(prompt.begin(), prompt.end(), tokenizer.start());
  if (most < 1 || start == prompt.end()) {
    return bad_input("prompt", fmt::format("a start mark in up to {} tokens", decoder.context()),
                     fmt::format("{} tokens", length));
  }
  std::vector<int32_t> rows = {static_cast<int32_t>(start - prompt.begin())};
  if (rows[0] + 1 != length) rows.push_back(static_cast<int32_t>(length - 1));
  KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, decoder.prefill(prompt, rows));
  const auto vocabulary = static_cast<size_t>(decoder.vocabulary());
  SearchResult result;
  result.no_speech_prob = std::exp(static_cast<double>(logits[static_cast<size_t>(tokenizer.no_speech())]) -
                                   log_sum_exp(logits.data(), decoder.vocabulary(), rules.isa));
  Search search(decoder, rules, options, most);
  const std::span<const float> first = logits.last(vocabulary);
  const bool beams = options.temperature == 0.0f && options.beam_size > 1;
  KVASS_ASSIGN_OR_RETURN(Beam best, beams ? search.beams(first) : search.samples(first, length));
  result.tokens = std::move(best.tokens);
  result.log_probability = best.score;
  return result;
}

}  // namespace kvass
