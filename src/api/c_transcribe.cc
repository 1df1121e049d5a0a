// include/kvass/kvass.h: speech.
#include <cmath>

#include "api/c_common.h"
#include "kvass/transcribe.h"

struct kvass_transcriber {
  explicit kvass_transcriber(kvass::Transcriber opened) : transcriber(std::move(opened)) {}

  kvass::Transcriber transcriber;
  std::atomic<bool> busy{false};
  std::atomic<bool> cancel{false};
  kvass::Transcript transcript;  // the last one
  std::string name;              // of its audio
  std::string text;              // as it was asked for
};

using namespace kvass;         // NOLINT: this file is the C API
using namespace kvass::c_api;  // NOLINT

namespace {

// 0: the default stays; a NaN: none.
void take_threshold(double value, std::optional<double>& threshold) {
  if (std::isnan(value)) {
    threshold.reset();
  } else if (value != 0.0) {
    threshold = value;
  }
}

Result<TranscribeOptions> transcribe_options(const kvass_transcribe_options* options) {
  KVASS_ASSIGN_OR_RETURN(const kvass_transcribe_options all, options_of(options, "kvass_transcribe_options"));
  TranscribeOptions result;
  if (all.language != nullptr) {
    result.language = language_code(all.language);
    if (result.language.empty()) return bad_input("language", "a language by its code or English name", all.language);
  }
  if (all.translate != 0) result.task = SpeechTask::translate;
  result.word_timestamps = all.word_timestamps != 0;
  result.timestamps = all.no_timestamps == 0;
  result.vad = all.vad != 0;
  result.condition_on_previous_text = all.no_condition == 0;
  result.suppress_blank = all.allow_blank == 0;
  if (all.initial_prompt != nullptr) result.initial_prompt = all.initial_prompt;
  if (all.beam_size != 0) result.search.beam_size = all.beam_size;
  if (all.best_of != 0) result.search.best_of = all.best_of;
  if (all.patience != 0.0) result.search.patience = all.patience;
  if (all.length_penalty != 0.0) result.search.length_penalty = all.length_penalty;
  result.search.seed = all.seed;
  KVASS_ASSIGN_OR_RETURN(const auto temperatures, array_of(all.temperatures, all.temperature_count, "temperatures"));
  if (all.temperatures != nullptr) result.temperatures.assign(temperatures.begin(), temperatures.end());
  take_threshold(all.compression_ratio_threshold, result.compression_ratio_threshold);
  take_threshold(all.logprob_threshold, result.logprob_threshold);
  take_threshold(all.no_speech_threshold, result.no_speech_threshold);
  if (all.prompt_reset_on_temperature != 0.0) result.prompt_reset_on_temperature = all.prompt_reset_on_temperature;
  if (all.max_initial_timestamp != 0.0) result.max_initial_timestamp = all.max_initial_timestamp;
  KVASS_ASSIGN_OR_RETURN(const auto suppressed, array_of(all.suppressed, all.suppressed_count, "suppressed"));
  if (all.suppressed != nullptr) result.suppressed.emplace(suppressed.begin(), suppressed.end());
  if (all.prepend_punctuations != nullptr) result.prepend_punctuations = all.prepend_punctuations;
  if (all.append_punctuations != nullptr) result.append_punctuations = all.append_punctuations;
  return result;
}

TranscribeEvents events_of(kvass_on_segment on_segment, void* user) {
  TranscribeEvents events;
  if (on_segment == nullptr) return events;
  events.on_segment = [on_segment, user](const Segment& segment) {
    std::vector<kvass_word> words;
    for (const Word& word : segment.words) words.push_back({word.start, word.end, word.text.c_str(), word.probability});
    const kvass_segment given = {segment.start,
                                 segment.end,
                                 segment.text.c_str(),
                                 segment.tokens.data(),
                                 segment.tokens.size(),
                                 words.data(),
                                 words.size(),
                                 segment.avg_logprob,
                                 segment.no_speech_prob,
                                 segment.compression_ratio,
                                 static_cast<double>(segment.temperature)};
    return on_segment(user, &given) != 0;
  };
  return events;
}

// body() -> Status alone with the transcriber.
template <class Body>
kvass_code with(kvass_transcriber* transcriber, Body&& body) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(transcriber, "transcriber"));
    if (transcriber->busy.exchange(true, std::memory_order_acquire)) {
      return Status::error(StatusCode::busy, "transcriber: expected one caller at a time, got a second one");
    }
    struct Release {
      std::atomic<bool>& busy;
      ~Release() { busy.store(false, std::memory_order_release); }
    } release{transcriber->busy};
    return body();
  });
}

template <class Transcribe>
kvass_code transcribe(kvass_transcriber* transcriber, const std::string& name, const kvass_transcribe_options* options,
                      kvass_on_segment on_segment, void* user, Transcribe&& run) {
  return with(transcriber, [&]() -> Status {
    KVASS_ASSIGN_OR_RETURN(const TranscribeOptions all, transcribe_options(options));
    transcriber->cancel.store(false);
    KVASS_ASSIGN_OR_RETURN(Transcript transcript, run(all, events_of(on_segment, user)));
    const bool cancelled = transcript.cancelled && transcriber->cancel.load();
    transcriber->transcript = std::move(transcript);
    transcriber->name = name;
    return cancelled ? Status::error(StatusCode::cancelled, "transcribe: cancelled") : Status();
  });
}

}  // namespace

extern "C" {

kvass_code kvass_transcriber_open(const kvass_model* model, const kvass_transcriber_options* options,
                                  kvass_transcriber** transcriber) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(model, "model"));
    KVASS_RETURN_IF_ERROR(given(transcriber, "transcriber"));
    KVASS_ASSIGN_OR_RETURN(const kvass_transcriber_options all, options_of(options, "kvass_transcriber_options"));
    TranscriberOptions opening;
    if (all.sequences != 0) opening.sequences = all.sequences;
    KVASS_ASSIGN_OR_RETURN(opening.kv, kv_of(all.kv));
    opening.threads = all.threads != 0 ? all.threads : model->streams.threads;
    if (all.memory_limit != 0) opening.memory_limit = static_cast<size_t>(all.memory_limit);
    KVASS_ASSIGN_OR_RETURN(Transcriber made, Transcriber::open(model->model, opening));
    *transcriber = new kvass_transcriber(std::move(made));
    return {};
  });
}

void kvass_transcriber_free(kvass_transcriber* transcriber) { delete transcriber; }

kvass_code kvass_transcribe_file(kvass_transcriber* transcriber, const char* path,
                                 const kvass_transcribe_options* options, kvass_on_segment on_segment, void* user) {
  if (path == nullptr) return fail(KVASS_BAD_INPUT, "path: expected a pointer, got NULL");
  return transcribe(transcriber, path, options, on_segment, user,
                    [&](const TranscribeOptions& all, const TranscribeEvents& events) {
                      return transcriber->transcriber.transcribe_file(path, all, events, &transcriber->cancel);
                    });
}

kvass_code kvass_transcribe(kvass_transcriber* transcriber, const int16_t* samples, size_t count,
                            const kvass_transcribe_options* options, kvass_on_segment on_segment, void* user) {
  const auto all_samples = array_of(samples, count, "samples");
  if (!all_samples.ok()) return call([&] { return all_samples.status(); });
  return transcribe(
      transcriber, "", options, on_segment, user, [&](const TranscribeOptions& all, const TranscribeEvents& events) {
        return transcriber->transcriber.transcribe(all_samples.value(), all, events, &transcriber->cancel);
      });
}

kvass_code kvass_transcript(kvass_transcriber* transcriber, const char* format, const char** text, size_t* bytes) {
  return with(transcriber, [&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(format, "format"));
    KVASS_RETURN_IF_ERROR(given(text, "text"));
    KVASS_ASSIGN_OR_RETURN(const TranscriptFormat form, parse_transcript_format(format));
    transcriber->text = transcript_text(form, transcriber->transcript, transcriber->name);
    *text = transcriber->text.c_str();
    if (bytes != nullptr) *bytes = transcriber->text.size();
    return {};
  });
}

void kvass_transcriber_cancel(kvass_transcriber* transcriber) {
  if (transcriber != nullptr) transcriber->cancel.store(true);
}

}  // extern "C"
