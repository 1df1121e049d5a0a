// The cross-attention heads of speech models that follow the audio, for files that do not say: (decoder layer, head).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "model/speech.h"

namespace kvass {

// Of the published models, by their sizes; of others, all heads of the later half of the layers.
std::vector<std::pair<int64_t, int64_t>> known_alignment_heads(const SpeechShape& shape);

}  // namespace kvass
