// What a session and the caches of a model that transcribes take. Planning and exporting need it without any audio.
#pragma once

#include <cstdint>

#include "kvass/cache_plan.h"
#include "model/speech.h"
#include "session/session.h"

namespace kvass {

// A step may bring the decoder's whole context.
SessionOptions speech_session(const SpeechShape& shape, int64_t sequences, int threads);
CacheOptions speech_caches(const SpeechShape& shape, DType dtype);

}  // namespace kvass
