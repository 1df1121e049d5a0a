#include "app/transcribe.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "app/text.h"
#include "app/word_times.h"
#include "audio/decode.h"
#include "audio/log_mel.h"
#include "base/check_enum.h"
#include "base/cpu.h"
#include "ops/loss/loss.h"

namespace kvass {
namespace {

constexpr double kFrameSeconds = 0.01;
constexpr double kTimestampSeconds = 0.02;
constexpr int64_t kFramesPerTimestamp = 2;

std::string stripped(const std::string& text) {
  constexpr char kSpace[] = " \t\n\r\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// What a window became, of all temperatures that were tried.
struct Reading {
  SearchResult result;
  double average = 0.0;
  double compression = 0.0;
  float temperature = 0.0f;
};

class WindowTranscriber {
 public:
  WindowTranscriber(SpeechDecoder& decoder, const SpeechTokenizer& tokenizer, const TranscribeOptions& options,
                    const LogMel& mel, const TranscribeEvents& events, Isa isa)
      : decoder_(decoder),
        tokenizer_(tokenizer),
        options_(options),
        mel_(mel),
        events_(events),
        isa_(isa),
        window_(static_cast<size_t>(decoder.mel_bins() * decoder.frames())) {
    rules_.tokenizer = &tokenizer;
    rules_.suppressed.assign(tokenizer.suppressed().begin(), tokenizer.suppressed().end());
    if (options.suppressed) {
      std::erase_if(rules_.suppressed, [&](int32_t id) { return id < tokenizer.end_of_text(); });
      rules_.suppressed.insert(rules_.suppressed.end(), options.suppressed->begin(), options.suppressed->end());
    }
    if (options.suppress_blank) {
      rules_.suppressed_first.assign(tokenizer.suppressed_first().begin(), tokenizer.suppressed_first().end());
    }
    rules_.timestamps = options.timestamps;
    rules_.max_initial_timestamp =
        static_cast<int32_t>(std::nearbyint(options.max_initial_timestamp / kTimestampSeconds));
    rules_.isa = isa;
  }

  Status run(std::span<const FrameRange> clips, Transcript& out, const std::atomic<bool>& cancel) {
    if (const Status begun = begin(clips, out); !begun.ok()) return unless_cancelled(begun, out);
    const int64_t total = mel_.frames() - 1;
    for (const FrameRange& clip : clips) {
      int64_t seek = clip.begin;
      while (seek < clip.end) {
        if (cancel.load(std::memory_order_relaxed)) {
          out.cancelled = true;
          return {};
        }
        const int64_t size = std::min(decoder_.frames(), clip.end - seek);
        int64_t next = seek;
        const Status status = window(seek, size, next, out);
        if (!status.ok()) return unless_cancelled(status, out);
        if (out.cancelled) return {};
        // A window always leads on, whatever its timestamps say.
        seek = std::max(next, seek + 1);
        if (events_.on_progress) {
          events_.on_progress(static_cast<double>(std::min(seek, total)) * kFrameSeconds,
                              static_cast<double>(total) * kFrameSeconds);
        }
      }
    }
    return {};
  }

 private:
  static Status unless_cancelled(const Status& status, Transcript& out) {
    if (status.code() != StatusCode::cancelled) return status;
    out.cancelled = true;
    return {};
  }

  Status encode(int64_t begin, int64_t count) {
    if (begin == encoded_begin_ && count == encoded_count_) return {};
    encoded_count_ = -1;
    mel_.window(begin, count, decoder_.frames(), window_.data());
    KVASS_RETURN_IF_ERROR(decoder_.encode(window_.data()));
    encoded_begin_ = begin;
    encoded_count_ = count;
    return {};
  }

  Status begin(std::span<const FrameRange> clips, Transcript& out) {
    start_ = {tokenizer_.start()};
    if (!tokenizer_.multilingual()) {
      out.language = "en";
    } else if (!options_.language.empty()) {
      out.language = options_.language;
    } else if (!clips.empty()) {
      KVASS_RETURN_IF_ERROR(detect_language(clips.front().begin, out));
    }
    language_ = out.language;
    if (tokenizer_.multilingual() && !language_.empty()) {
      start_.push_back(tokenizer_.language_id(language_));
      start_.push_back(options_.task == SpeechTask::translate ? tokenizer_.translate() : tokenizer_.transcribe());
    }
    if (events_.on_language && !language_.empty()) events_.on_language(out.language, out.language_probability);
    if (const std::string prompt = stripped(options_.initial_prompt); !prompt.empty()) {
      KVASS_ASSIGN_OR_RETURN(const Tokenizer encoder, tokenizer_.text_encoder());
      written_ = encoder.encode(" " + prompt);
    }
    return {};
  }

  // The most likely language mark after the start; the recording's last frame counts here.
  Status detect_language(int64_t begin, Transcript& out) {
    KVASS_RETURN_IF_ERROR(encode(begin, std::min(decoder_.frames(), mel_.frames() - begin)));
    const int32_t row = 0;
    KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, decoder_.prefill({start_.data(), 1}, {&row, 1}));
    std::vector<float> scores;
    for (const Language& language : tokenizer_.languages()) scores.push_back(logits[static_cast<size_t>(language.id)]);
    const size_t best = static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
    out.language = tokenizer_.languages()[best].code;
    out.language_probability = std::exp(static_cast<double>(scores[best]) -
                                        log_sum_exp(scores.data(), static_cast<int64_t>(scores.size()), isa_));
    return {};
  }

  std::vector<int32_t> prompt() const {
    std::vector<int32_t> ids;
    const auto before = std::span(written_).subspan(prompt_begin_);
    if (!before.empty()) {
      const auto most = static_cast<size_t>(decoder_.context() / 2 - 1);
      const auto latest = before.last(std::min(most, before.size()));
      ids.push_back(tokenizer_.previous());
      ids.insert(ids.end(), latest.begin(), latest.end());
    }
    ids.insert(ids.end(), start_.begin(), start_.end());
    if (!options_.timestamps) ids.push_back(tokenizer_.no_timestamps());
    return ids;
  }

  Result<Reading> read_window(std::span<const int32_t> prompt) {
    std::vector<Reading> readings, compact;
    for (const float temperature : options_.temperatures) {
      SearchOptions options = options_.search;
      options.temperature = temperature;
      // Every window and temperature draws anew, and the same in every run.
      options.seed += (static_cast<uint64_t>(window_count_) << 32) + (readings.size() << 16);
      Reading reading;
      reading.temperature = temperature;
      KVASS_ASSIGN_OR_RETURN(reading.result, search(decoder_, prompt, rules_, options));
      reading.average = reading.result.average();
      reading.compression = compression_ratio(stripped(tokenizer_.decode(reading.result.tokens)));
      readings.push_back(reading);
      bool bad = false;
      if (options_.compression_ratio_threshold) {
        if (reading.compression > *options_.compression_ratio_threshold) {
          bad = true;
        } else {
          compact.push_back(reading);
        }
      }
      if (options_.logprob_threshold && reading.average < *options_.logprob_threshold) {
        // Doubt about silence is no reason to try again.
        bad = !(options_.no_speech_threshold && reading.result.no_speech_prob > *options_.no_speech_threshold);
      }
      if (!bad) return reading;
    }
    // None will do: the one that the model doubts least, though it counts as of the last temperature.
    const std::vector<Reading>& of = compact.empty() ? readings : compact;
    Reading best = *std::max_element(of.begin(), of.end(),
                                     [](const Reading& a, const Reading& b) { return a.average < b.average; });
    best.temperature = options_.temperatures.back();
    return best;
  }

  bool silent(const Reading& reading) const {
    if (!options_.no_speech_threshold || reading.result.no_speech_prob <= *options_.no_speech_threshold) return false;
    return !(options_.logprob_threshold && reading.average > *options_.logprob_threshold);
  }

  Status window(int64_t seek, int64_t size, int64_t& next, Transcript& out) {
    KVASS_RETURN_IF_ERROR(encode(seek, size));
    ++window_count_;
    WindowReport report;
    report.prompt = prompt();
    KVASS_ASSIGN_OR_RETURN(const Reading reading, read_window(report.prompt));
    const double offset = static_cast<double>(seek) * kFrameSeconds;
    const bool skipped = silent(reading);
    std::vector<Segment> segments;
    if (skipped) {
      next = seek + size;
    } else {
      bool ends_with_time = false;
      segments = split(reading.result.tokens, offset, size, seek, next, ends_with_time);
      if (options_.word_timestamps) {
        WordTimesInput input{
            &tokenizer_, start_, language_, size, options_.prepend_punctuations, options_.append_punctuations};
        KVASS_RETURN_IF_ERROR(add_word_times(decoder_, input, offset, segments, last_speech_));
        const auto last =
            std::find_if(segments.rbegin(), segments.rend(), [](const Segment& s) { return !s.words.empty(); });
        const double end = last != segments.rend() ? last->words.back().end
                           : segments.empty()      ? 0.0
                                                   : segments.back().end;
        if (!ends_with_time && end > offset) next = static_cast<int64_t>(std::nearbyint(end * kFramesPerSecond));
        if (!segments.empty()) last_speech_ = end;
      }
    }
    report.tokens = reading.result.tokens;
    report.seek = seek;
    report.size = size;
    report.next_seek = next;
    report.avg_logprob = reading.average;
    report.no_speech_prob = reading.result.no_speech_prob;
    report.compression_ratio = reading.compression;
    report.temperature = reading.temperature;
    if (events_.on_window) events_.on_window(report);
    if (!skipped) keep(std::move(segments), reading, out);
    return {};
  }

  void keep(std::vector<Segment> segments, const Reading& reading, Transcript& out) {
    for (Segment& segment : segments) {
      segment.text = tokenizer_.decode(segment.tokens);
      if (segment.start == segment.end || stripped(segment.text).empty()) continue;
      written_.insert(written_.end(), segment.tokens.begin(), segment.tokens.end());
      segment.avg_logprob = reading.average;
      segment.no_speech_prob = reading.result.no_speech_prob;
      segment.compression_ratio = reading.compression;
      segment.temperature = reading.temperature;
      if (events_.on_segment && !events_.on_segment(segment)) out.cancelled = true;
      out.segments.push_back(std::move(segment));
      if (out.cancelled) return;
    }
    if (!options_.condition_on_previous_text ||
        static_cast<double>(reading.temperature) > options_.prompt_reset_on_temperature) {
      prompt_begin_ = written_.size();
    }
  }

  // Tokens between pairs of timestamps are segments; what follows the last pair is read again in the next window.
  std::vector<Segment> split(std::span<const int32_t> tokens, double offset, int64_t size, int64_t seek, int64_t& next,
                             bool& ends_with_time) const {
    const int32_t zero = tokenizer_.timestamp_begin();
    const auto is_time = [&](size_t i) { return tokens[i] >= zero; };
    const auto seconds = [&](int32_t id) { return offset + static_cast<double>(id - zero) * kTimestampSeconds; };
    const size_t count = tokens.size();
    ends_with_time = count >= 2 && is_time(count - 1) && !is_time(count - 2);
    std::vector<size_t> cuts;
    for (size_t i = 1; i < count; ++i) {
      if (is_time(i) && is_time(i - 1)) cuts.push_back(i);
    }
    std::vector<Segment> segments;
    const auto add = [&](std::span<const int32_t> part, double start, double end) {
      Segment segment;
      segment.seek = seek;
      segment.start = start;
      segment.end = end;
      segment.tokens.assign(part.begin(), part.end());
      segments.push_back(std::move(segment));
    };
    if (cuts.empty()) {
      double duration = static_cast<double>(size) * kFrameSeconds;
      const auto last = std::find_if(tokens.rbegin(), tokens.rend(), [&](int32_t id) { return id >= zero; });
      if (last != tokens.rend() && *last != zero) duration = static_cast<double>(*last - zero) * kTimestampSeconds;
      add(tokens, offset, offset + duration);
      next = seek + size;
      return segments;
    }
    if (ends_with_time) cuts.push_back(count);
    size_t begin = 0;
    for (const size_t cut : cuts) {
      add(tokens.subspan(begin, cut - begin), seconds(tokens[begin]), seconds(tokens[cut - 1]));
      begin = cut;
    }
    next = ends_with_time ? seek + size : seek + (tokens[begin - 1] - zero) * kFramesPerTimestamp;
    return segments;
  }

  SpeechDecoder& decoder_;
  const SpeechTokenizer& tokenizer_;
  const TranscribeOptions& options_;
  const LogMel& mel_;
  const TranscribeEvents& events_;
  Isa isa_;
  SpeechRules rules_;
  std::vector<float> window_;  // [mel_bins][frames]
  int64_t encoded_begin_ = 0, encoded_count_ = -1;
  std::string language_;
  std::vector<int32_t> start_;    // start mark, language, task
  std::vector<int32_t> written_;  // the initial prompt and the tokens of all segments
  size_t prompt_begin_ = 0;       // of written_: what the next window sees
  int64_t window_count_ = 0;
  double last_speech_ = 0.0;  // seconds
};

}  // namespace

double compression_ratio(const std::string& text) {
  uLongf size = compressBound(static_cast<uLong>(text.size()));
  std::vector<Bytef> out(size);
  if (compress(out.data(), &size, reinterpret_cast<const Bytef*>(text.data()), static_cast<uLong>(text.size())) != Z_OK)
    return 0.0;
  return static_cast<double>(text.size()) / static_cast<double>(size);
}

Status check_options(const TranscribeOptions& options, const SpeechTokenizer& tokenizer) {
  const auto number = [](double value) { return fmt::format("{}", value); };
  if (!options.language.empty()) {
    if (!tokenizer.multilingual() && options.language != "en") {
      return bad_input("TranscribeOptions.language", "en, the one that this model knows", options.language);
    }
    if (tokenizer.multilingual() && tokenizer.language_id(options.language) < 0) {
      return bad_input("TranscribeOptions.language",
                       fmt::format("one of the {} that this model knows", tokenizer.languages().size()),
                       options.language);
    }
  }
  KVASS_RETURN_IF_ERROR(check_enum("TranscribeOptions.task", options.task, speech_task_name));
  if (options.task == SpeechTask::translate && !tokenizer.multilingual()) {
    return bad_input("TranscribeOptions.task", "transcribe (the model knows English only)", "translate");
  }
  if (options.temperatures.empty()) return bad_input("TranscribeOptions.temperatures", "at least one", "none");
  for (const float temperature : options.temperatures) {
    if (!(temperature >= 0.0f && temperature <= 10.0f)) {
      return bad_input("TranscribeOptions.temperatures", "0 to 10", number(static_cast<double>(temperature)));
    }
  }
  KVASS_RETURN_IF_ERROR(check_utf8(options.initial_prompt, "TranscribeOptions.initial_prompt"));
  const SearchOptions& search = options.search;
  if (search.temperature != 0.0f) {
    return bad_input("SearchOptions.temperature", "0, for TranscribeOptions.temperatures says them",
                     number(static_cast<double>(search.temperature)));
  }
  if (search.beam_size < 1 || search.beam_size > 64) {
    return bad_input("SearchOptions.beam_size", "1 to 64", std::to_string(search.beam_size));
  }
  if (search.best_of < 1 || search.best_of > 64)
    return bad_input("SearchOptions.best_of", "1 to 64", std::to_string(search.best_of));
  if (!(search.patience > 0.0 && search.patience <= 100.0)) {
    return bad_input("SearchOptions.patience", "above 0, at most 100", number(search.patience));
  }
  if (!(search.length_penalty >= 0.0 && search.length_penalty <= 10.0)) {
    return bad_input("SearchOptions.length_penalty", "0 to 10", number(search.length_penalty));
  }
  if (!(options.max_initial_timestamp >= 0.0 && options.max_initial_timestamp <= 30.0)) {
    return bad_input("TranscribeOptions.max_initial_timestamp", "0 to 30 seconds",
                     number(options.max_initial_timestamp));
  }
  for (const int32_t id : options.suppressed.value_or(std::vector<int32_t>())) {
    if (id < 0 || id >= tokenizer.size()) {
      return bad_input("TranscribeOptions.suppressed", fmt::format("ids from 0 to {}", tokenizer.size() - 1),
                       std::to_string(id));
    }
  }
  return {};
}

Result<Transcript> transcribe(SpeechDecoder& decoder, const SpeechTokenizer& tokenizer,
                              std::span<const int16_t> samples, const TranscribeOptions& options, ThreadPool& pool,
                              const TranscribeEvents& events, const std::atomic<bool>& cancel) {
  KVASS_RETURN_IF_ERROR(check_options(options, tokenizer));
  if (decoder.vocabulary() != tokenizer.size()) {
    return bad_input("tokens", fmt::format("as many as the model's {}", decoder.vocabulary()),
                     std::to_string(tokenizer.size()));
  }
  KVASS_ASSIGN_OR_RETURN(const Isa isa, default_isa());
  Transcript out;
  out.language = options.language;
  out.duration = static_cast<double>(samples.size()) / kSampleRate;
  const ThreadPool::Cancel scope(pool, &cancel);
  const LogMel mel(samples, decoder.mel_bins(), pool);
  std::vector<FrameRange> clips;
  if (options.vad) {
    clips = find_voice(samples, mel.frames() - 1);
  } else if (mel.frames() > 1) {
    clips.push_back({0, mel.frames() - 1});
  }
  WindowTranscriber transcriber(decoder, tokenizer, options, mel, events, isa);
  decoder.set_cancel(&cancel);
  const Status status = transcriber.run(clips, out, cancel);
  decoder.set_cancel(nullptr);
  if (!status.ok()) return status;
  return out;
}

}  // namespace kvass
