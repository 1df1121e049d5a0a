// The alignment heads of speech models, for files that do not name them: the cross-attention heads whose weights follow
// the audio, as (decoder layer, head).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "model/speech.h"

namespace kvass {

// Published models are recognised by their sizes. For other models: all heads of the second half of the layers.
std::vector<std::pair<int64_t, int64_t>> known_alignment_heads(const SpeechShape& shape);

}  // namespace kvass
