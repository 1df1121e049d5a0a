// Speech in recordings to text: windows of 30 s, each written by beam search or sampling, again at a higher temperature
// where it reads badly, and skipped where nobody speaks. docs/whisper.md.
//
//     KVASS_ASSIGN_OR_RETURN(const kvass::Model model, kvass::Model::load("whisper-base"));
//     KVASS_ASSIGN_OR_RETURN(kvass::Transcriber transcriber, kvass::Transcriber::open(model));
//     KVASS_ASSIGN_OR_RETURN(const kvass::Transcript talk, transcriber.transcribe_file("talk.mp3"));
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/export.h"
#include "kvass/model.h"
#include "kvass/options.h"
#include "kvass/status.h"

namespace kvass {

enum class SpeechTask : uint8_t { transcribe, translate };

constexpr std::string_view speech_task_name(SpeechTask task) {
  switch (task) {
    case SpeechTask::transcribe:
      return "transcribe";
    case SpeechTask::translate:
      return "translate";
  }
  return "?";
}

struct SearchOptions {
  int64_t beam_size = 1;        // at temperature 0; 1: greedy
  double patience = 1.0;        // finished texts to wait for, in beam sizes
  double length_penalty = 1.0;  // texts are compared by log-probability / length^length_penalty
  float temperature = 0.0f;     // above 0: sampling
  int64_t best_of = 5;          // texts that are drawn
  uint64_t seed = 0;
};

struct TranscribeOptions {
  std::string language;  // code, as language_code() gives it; empty: the one that is heard
  SpeechTask task = SpeechTask::transcribe;
  std::vector<float> temperatures = {0.0f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f};  // one after the other, while the text is bad
  SearchOptions search = {.beam_size = 5};                                 // its temperature is 0: see temperatures
  // A text is bad above the first (it repeats itself) or below the second (the model doubts it).
  std::optional<double> compression_ratio_threshold = 2.4;
  std::optional<double> logprob_threshold = -1.0;
  // A window whose no_speech_prob is above it counts as silence, unless its avg_logprob is above logprob_threshold.
  std::optional<double> no_speech_threshold = 0.6;
  bool condition_on_previous_text = true;
  double prompt_reset_on_temperature = 0.5;  // the next window does not see a text decoded at a higher temperature
  std::string initial_prompt;                // UTF-8, comes before the first window
  bool timestamps = true;
  double max_initial_timestamp = 1.0;              // seconds
  std::optional<std::vector<int32_t>> suppressed;  // ids never written, besides special tokens; unset: the model's
                                                   // non-speech list
  bool suppress_blank = true;
  bool word_timestamps = false;
  std::string prepend_punctuations = "\"'“¿([{-";
  std::string append_punctuations = "\"'.。,，!！?？:：”)]}、";
  bool vad = false;  // only where it is not silent, by energy
};

struct Word {
  double start = 0.0, end = 0.0;  // seconds
  std::string text;               // with the space before it
  double probability = 0.0;
};

struct Segment {
  int64_t seek = 0;               // of its window, frames of 10 ms
  double start = 0.0, end = 0.0;  // seconds
  std::string text;
  std::vector<int32_t> tokens;  // timestamps included
  double avg_logprob = 0.0;     // of its window, as what follows
  double no_speech_prob = 0.0;
  double compression_ratio = 0.0;
  float temperature = 0.0f;
  std::vector<Word> words;  // with word_timestamps
};

// A window as it was read, for tests and measurements.
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

// What happens on the way; each may be empty. None may use the transcriber, which is busy.
struct TranscribeEvents {
  std::function<void(const std::string& language, double probability)> on_language;
  std::function<bool(const Segment&)> on_segment;              // false: enough
  std::function<void(double done, double total)> on_progress;  // seconds
  std::function<void(const WindowReport&)> on_window;
};

enum class TranscriptFormat : uint8_t { txt, srt, vtt, tsv, json };
inline constexpr TranscriptFormat kTranscriptFormats[] = {
    TranscriptFormat::txt, TranscriptFormat::srt, TranscriptFormat::vtt, TranscriptFormat::tsv, TranscriptFormat::json};
KVASS_API std::string_view transcript_format_name(TranscriptFormat format);
KVASS_API Result<TranscriptFormat> parse_transcript_format(std::string_view name);

// All of it; `file` stands in JSON.
KVASS_API std::string transcript_text(TranscriptFormat format, const Transcript& transcript, const std::string& file);
// What comes before the first segment, and segment `number` (from 1). JSON is of whole transcripts: nothing.
KVASS_API std::string transcript_header(TranscriptFormat format);
KVASS_API std::string transcript_segment(TranscriptFormat format, const Segment& segment, int64_t number);
// The code of a language by its code or English name, in any case; empty: there is none.
KVASS_API std::string language_code(std::string_view name);

struct TranscriberOptions {
  int64_t sequences = 5;               // beams or draws that live at a time
  std::optional<DType> kv;             // storage of keys and values; none: the model's own
  int threads = 0;                     // 0: the CPUs that the process may use
  std::optional<size_t> memory_limit;  // bytes that weights, caches and arena may take together
};

// One caller at a time: a second one gets busy, and nothing has happened.
class KVASS_API Transcriber {
 public:
  // Of a speech model that is loaded. All memory but that of the recording is mapped here.
  static Result<Transcriber> open(const Model& model, const TranscriberOptions& options = {});
  Transcriber(Transcriber&&) noexcept;
  Transcriber& operator=(Transcriber&&) noexcept;
  ~Transcriber();

  // WAV, FLAC, OGG or MP3 of any rate and channels; "-": stdin. bad_input: a file that is no audio, options that do not
  // fit the model or take more sequences than there are. Cancelled, the transcript has what was written, and says so.
  Result<Transcript> transcribe_file(const std::string& path, const TranscribeOptions& options = {},
                                     const TranscribeEvents& events = {}, const std::atomic<bool>* cancel = nullptr);
  // `samples`: one channel at 16 kHz.
  Result<Transcript> transcribe(std::span<const int16_t> samples, const TranscribeOptions& options = {},
                                const TranscribeEvents& events = {}, const std::atomic<bool>* cancel = nullptr);

  size_t bytes() const;             // caches and arena, as mapped
  double encode_seconds() const;    // of the encoder, in all
  int64_t encoded_windows() const;  // in all

 private:
  struct KVASS_HIDDEN Impl;
  explicit Transcriber(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvass
