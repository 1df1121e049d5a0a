// A recording to a transcript: the job of `kvass transcribe`. Windows of 30 s that begin where the last text ended,
// each written under SpeechRules, again at a higher temperature where it reads badly, and skipped where nobody speaks.
// The order of things is that of the Whisper reference and of faster-whisper. Owns the state of one recording; the
// model is the caller's. Files, formats and printing are not its concern (transcript.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/speech_decoder.h"
#include "app/speech_search.h"
#include "audio/voice.h"
#include "base/thread_pool.h"
#include "kvass/status.h"
#include "kvass/transcribe.h"
#include "text/speech_tokenizer.h"

namespace kvass {

// Errors: options that do not fit the model, or each other.
Status check_options(const TranscribeOptions& options, const SpeechTokenizer& tokenizer);

// `samples` at 16 kHz.
Result<Transcript> transcribe(SpeechDecoder& decoder, const SpeechTokenizer& tokenizer,
                              std::span<const int16_t> samples, const TranscribeOptions& options, ThreadPool& pool,
                              const TranscribeEvents& events, const std::atomic<bool>& cancel);

// Bytes of a text over bytes of it compressed (zlib): high where it repeats itself.
double compression_ratio(const std::string& text);

}  // namespace kvass
