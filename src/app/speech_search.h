// The text of one window: greedy, by beam search, or by sampling, under SpeechRules. Drives a SpeechDecoder that has
// encoded the window; owns nothing that lasts. Not the fallback between temperatures, nor windows: transcribe.h.
//
// Beam search keeps `beam_size` sequences. Of the 2·beam_size best continuations those that end become results, the
// best of the others go on; it stops at beam_size·patience results, and the best by score / length^length_penalty wins.
// Sampling draws `best_of` texts and keeps the best by the same measure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "app/speech_decoder.h"
#include "app/speech_rules.h"
#include "kvass/status.h"
#include "kvass/transcribe.h"

namespace kvass {

struct SearchResult {
  std::vector<int32_t> tokens;   // timestamps included, the end not
  double log_probability = 0.0;  // of all tokens, the end included
  double no_speech_prob = 0.0;

  double average() const { return log_probability / static_cast<double>(tokens.size() + 1); }
};

// `prompt` has the start mark in it; after that mark the model says whether there is speech.
Result<SearchResult> search(SpeechDecoder& decoder, std::span<const int32_t> prompt, const SpeechRules& rules,
                            const SearchOptions& options);

}  // namespace kvass
