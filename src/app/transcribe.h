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
#include "text/speech_tokenizer.h"

namespace kvass {

enum class SpeechTask { transcribe, translate };

struct TranscribeOptions {
  std::string language;  // code; empty: the one that is heard
  SpeechTask task = SpeechTask::transcribe;
  std::vector<float> temperatures = {0.0f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f};  // one after the other, while the text is bad
  SearchOptions search = {.beam_size = 5};                                 // its temperature is not read
  // A text is bad above the first (it repeats itself) or below the second (the model doubts it).
  std::optional<double> compression_ratio_threshold = 2.4;
  std::optional<double> logprob_threshold = -1.0;
  std::optional<double> no_speech_threshold = 0.6;  // silence above it, unless logprob_threshold is met
  bool condition_on_previous_text = true;
  double prompt_reset_on_temperature = 0.5;  // the next window does not see a text that took a higher one
  std::string initial_prompt;                // comes before the first window
  bool timestamps = true;
  double max_initial_timestamp = 1.0;              // seconds
  std::optional<std::vector<int32_t>> suppressed;  // ids beside the marks; none: signs that are no speech
  bool suppress_blank = true;
  bool word_timestamps = false;
  std::string prepend_punctuations = "\"'“¿([{-";
  std::string append_punctuations = "\"'.。,，!！?？:：”)]}、";
  bool vad = false;  // only where find_voice says so
};

struct Word {
  double start = 0.0, end = 0.0;  // seconds
  std::string text;               // with the space before it
  double probability = 0.0;
};

struct Segment {
  int64_t seek = 0;               // of its window, frames
  double start = 0.0, end = 0.0;  // seconds
  std::string text;
  std::vector<int32_t> tokens;  // timestamps included
  double avg_logprob = 0.0;     // of its window, as what follows
  double no_speech_prob = 0.0;
  double compression_ratio = 0.0;
  float temperature = 0.0f;
  std::vector<Word> words;  // with word_timestamps
};

// A window as it was read, for tests and for those who wonder.
struct WindowReport {
  std::vector<int32_t> prompt, tokens;
  int64_t seek = 0, size = 0, next_seek = 0;  // frames
  double avg_logprob = 0.0, no_speech_prob = 0.0, compression_ratio = 0.0;
  float temperature = 0.0f;
};

struct Transcript {
  std::string language;  // code
  double language_probability = 1.0;
  double duration = 0.0;  // seconds of audio
  std::vector<Segment> segments;
  bool cancelled = false;
};

// What happens on the way; each may be empty.
struct TranscribeEvents {
  std::function<void(const std::string& language, double probability)> on_language;
  std::function<bool(const Segment&)> on_segment;              // false: enough
  std::function<void(double done, double total)> on_progress;  // seconds
  std::function<void(const WindowReport&)> on_window;
};

// Errors: options that do not fit the model, or each other.
Status check_options(const TranscribeOptions& options, const SpeechTokenizer& tokenizer);

// `samples` at 16 kHz.
Result<Transcript> transcribe(SpeechDecoder& decoder, const SpeechTokenizer& tokenizer,
                              std::span<const int16_t> samples, const TranscribeOptions& options, ThreadPool& pool,
                              const TranscribeEvents& events, const std::atomic<bool>& cancel);

// Bytes of a text over bytes of it compressed (zlib): high where it repeats itself.
double compression_ratio(const std::string& text);

}  // namespace kvass
