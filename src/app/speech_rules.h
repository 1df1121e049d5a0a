// What a recogniser may write next, as changes of its logits (section 3.3 of arXiv 2212.04356 and the decoders that
// followed it):
//   never           signs that are no speech, and marks; at first also a lone space and the end
//   timestamps      first, and not later than `max_initial_timestamp`; then in pairs, or alone before the end; never
//   going
//                   back, and never the same twice within a segment
//   rather a time   where all timestamps together are more likely than the most likely text
// Forbidden tokens get −∞. Knows the text so far, not how it is searched for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "text/speech_tokenizer.h"

namespace kvass {

struct SpeechRules {
  const SpeechTokenizer* tokenizer = nullptr;
  std::vector<int32_t> suppressed;        // ids that are never written
  std::vector<int32_t> suppressed_first;  // … and not first
  bool timestamps = true;                 // false: no timestamps at all
  int32_t max_initial_timestamp = 50;     // steps of 0.02 s
  Isa isa = Isa::scalar;

  // `written`: what has been written after the prompt. logits [vocabulary].
  void apply(std::span<const int32_t> written, std::span<float> logits) const;
};

}  // namespace kvass
