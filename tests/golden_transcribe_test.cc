// Whole transcripts of Whisper base against those of CTranslate2 and faster-whisper in float32: every window's prompt,
// tokens and seek, segments, words, languages. KVASS_SPEECH_MODEL names the folder of the model; without it, or without
// the goldens, tests are skipped with a message. KVASS_LONG=1 runs all clips and options.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "app/open.h"
#include "app/session_decoder.h"
#include "app/transcribe_file.h"
#include "audio/decode.h"
#include "file/safetensors.h"
#include "goldens.h"

namespace kvass {
namespace {

using nlohmann::json;

std::string why_not() {
  const char* folder = std::getenv("KVASS_SPEECH_MODEL");
  if (folder == nullptr || *folder == 0) return "set KVASS_SPEECH_MODEL to the folder of whisper-base to run this test";
  if (!testing::golden_path("whisper/jfk.json")) return "no goldens in " KVASS_GOLDENS_DIR;
  return "";
}

#define KVASS_NEEDS_SPEECH_MODEL() \
  if (const std::string why = why_not(); !why.empty()) GTEST_SKIP() << why

constexpr const char* kClips[] = {"jfk", "en_short", "en_two_minutes", "en_8k", "en_44k_stereo", "de"};

// The model in float32, opened once.
struct Speech {
  OpenModel model;
  std::unique_ptr<SessionDecoder> decoder;
};
Speech& speech() {
  static Speech speech = [] {
    Speech made;
    const int threads = 2;
    ModelFile file = ModelFile::open(std::getenv("KVASS_SPEECH_MODEL")).value();
    made.model = open_speech_model(std::move(file), Math::f32, threads).value();
    made.decoder =
        SessionDecoder::create(made.model, {.sequences = 5, .caches = DType::f32, .threads = threads}).value();
    return made;
  }();
  return speech;
}

json golden(const std::string& clip) { return *testing::load_golden("whisper/" + clip + ".json"); }

std::string audio_of(const json& golden) {
  return std::string(KVASS_GOLDENS_DIR) + "/../audio/" + golden["clip"].get<std::string>();
}

// The golden's own samples if the file must be resampled.
std::vector<int16_t> samples_of(const std::string& clip, const json& golden) {
  const SafeTensors file = SafeTensors::open(*testing::golden_path("whisper/" + clip + ".safetensors")).value();
  const SafeTensor* const pcm = file.find("pcm16k_int16");
  if (pcm == nullptr) return decode_audio(audio_of(golden)).value();
  std::vector<int16_t> samples(static_cast<size_t>(pcm->elements()));
  std::memcpy(samples.data(), pcm->bytes.data(), pcm->bytes.size());
  return samples;
}

struct Outcome {
  Transcript transcript;
  std::vector<WindowReport> windows;
};

Outcome transcribe_with(std::span<const int16_t> samples, const TranscribeOptions& options) {
  Outcome run;
  TranscribeEvents events;
  events.on_window = [&](const WindowReport& window) { run.windows.push_back(window); };
  const std::atomic<bool> never{false};
  SessionDecoder& decoder = *speech().decoder;
  Result<Transcript> result =
      transcribe(decoder, *speech().model.speech->tokenizer, samples, options, decoder.session().pool(), events, never);
  EXPECT_TRUE(result.ok()) << result.status().message();
  if (result.ok()) run.transcript = std::move(result).value();
  return run;
}

void expect_run(const Outcome& run, const json& expected, const std::string& what) {
  EXPECT_EQ(run.transcript.language, expected["language"].get<std::string>()) << what;
  EXPECT_NEAR(run.transcript.language_probability, expected["language_probability"].get<double>(), 2e-5) << what;
  ASSERT_EQ(run.windows.size(), expected["windows"].size()) << what;
  for (size_t i = 0; i < run.windows.size(); ++i) {
    const WindowReport& window = run.windows[i];
    const json& e = expected["windows"][i];
    const std::string where = what + " window " + std::to_string(i);
    EXPECT_EQ(window.prompt, e["prompt"].get<std::vector<int32_t>>()) << where;
    EXPECT_EQ(window.tokens, e["tokens"].get<std::vector<int32_t>>()) << where;
    EXPECT_EQ(window.seek, e["seek"].get<int64_t>()) << where;
    EXPECT_EQ(window.size, e["segment_size"].get<int64_t>()) << where;
    EXPECT_EQ(window.next_seek, e["next_seek"].get<int64_t>()) << where;
    EXPECT_NEAR(window.avg_logprob, e["avg_logprob"].get<double>(), 2e-4) << where;
    EXPECT_NEAR(window.no_speech_prob, e["no_speech_prob"].get<double>(), 2e-5) << where;
    EXPECT_NEAR(window.compression_ratio, e["compression_ratio"].get<double>(), 1e-9) << where;
  }
  ASSERT_EQ(run.transcript.segments.size(), expected["segments"].size()) << what;
  for (size_t i = 0; i < run.transcript.segments.size(); ++i) {
    const Segment& segment = run.transcript.segments[i];
    const json& e = expected["segments"][i];
    const std::string where = what + " segment " + std::to_string(i);
    const bool words = e.contains("words") && !e["words"].is_null();
    EXPECT_EQ(segment.text, e["text"].get<std::string>()) << where;
    EXPECT_EQ(segment.tokens, e["tokens"].get<std::vector<int32_t>>()) << where;
    // With words the segment's times are those of its words.
    EXPECT_NEAR(segment.start, e["start"].get<double>(), words ? 0.0201 : 1e-9) << where;
    EXPECT_NEAR(segment.end, e["end"].get<double>(), words ? 0.0201 : 1e-9) << where;
    if (!words) continue;
    ASSERT_EQ(segment.words.size(), e["words"].size()) << where;
    for (size_t w = 0; w < segment.words.size(); ++w) {
      const json& word = e["words"][w];
      EXPECT_EQ(segment.words[w].text, word["word"].get<std::string>()) << where;
      EXPECT_NEAR(segment.words[w].start, word["start"].get<double>(), 0.0201) << where << segment.words[w].text;
      EXPECT_NEAR(segment.words[w].end, word["end"].get<double>(), 0.0201) << where << segment.words[w].text;
      EXPECT_NEAR(segment.words[w].probability, word["probability"].get<double>(), 1e-3) << where;
    }
  }
}

// The options of a golden's run.
TranscribeOptions options_of(const std::string& run, const json& expected) {
  TranscribeOptions options;
  options.temperatures = {0.0f};
  options.search.beam_size = expected["options"]["beam_size"].get<int64_t>();
  options.word_timestamps = run.ends_with("words");
  options.condition_on_previous_text = run != "greedy_no_condition";
  return options;
}

void expect_clip(const std::string& clip, std::string_view only = "") {
  const json all = golden(clip);
  const std::vector<int16_t> samples = samples_of(clip, all);
  ASSERT_EQ(samples.size(), all["pcm16k"]["n_samples"].get<size_t>());
  for (const auto& [name, expected] : all["runs"].items()) {
    if (!expected.is_object() || !expected.contains("windows") || (!only.empty() && name != only)) continue;
    expect_run(transcribe_with(samples, options_of(name, expected)), expected, clip + " " + name);
  }
}

TEST(GoldenTranscribe, JfkIsWhatTheReferenceHears) {
  KVASS_NEEDS_SPEECH_MODEL();
  expect_clip("jfk", "greedy_condition_default");
  expect_clip("jfk", "beam5_words");
}

TEST(GoldenTranscribe, EveryClipAndEveryRun) {
  KVASS_NEEDS_SPEECH_MODEL();
  if (!testing::long_tests()) GTEST_SKIP() << "set KVASS_LONG=1";
  for (const char* clip : kClips) expect_clip(clip);
}

// Two recordings by turns with silences between them, an hour long: the transcript has each at its right time, at the
// end as at the beginning, and memory grows only by the samples.
TEST(GoldenTranscribe, AnHourDoesNotDrift) {
  KVASS_NEEDS_SPEECH_MODEL();
  if (!testing::long_tests()) GTEST_SKIP() << "set KVASS_LONG=1";
  const char* const shorter = std::getenv("KVASS_LONG_SECONDS");
  const size_t seconds = shorter != nullptr ? std::strtoul(shorter, nullptr, 10) : 3600;
  const std::vector<int16_t> parts[] = {samples_of("jfk", golden("jfk")), samples_of("en_short", golden("en_short"))};
  TranscribeOptions options;
  options.language = "en";
  options.temperatures = {0.0f};
  options.search.beam_size = 1;
  options.condition_on_previous_text = false;
  options.vad = true;
  transcribe_with(parts[0], options);  // maps all memory that a transcription needs
  const size_t before = peak_rss_bytes();
  std::vector<int16_t> samples;
  samples.reserve(seconds * kSampleRate);
  std::vector<double> starts;  // of the first recording, seconds
  for (size_t i = 0;; ++i) {
    const std::vector<int16_t>& part = parts[i % 2];
    const size_t silence = (3 + i * 7 % 23) * kSampleRate + i * 613 % kSampleRate;
    if (samples.size() + part.size() + silence > seconds * kSampleRate) break;
    if (i % 2 == 0) starts.push_back(static_cast<double>(samples.size()) / kSampleRate);
    samples.insert(samples.end(), part.begin(), part.end());
    samples.resize(samples.size() + silence, 0);
  }
  const Outcome run = transcribe_with(samples, options);
  EXPECT_LE(peak_rss_bytes() - before, samples.size() * sizeof(int16_t) + (size_t{24} << 20));
  size_t found = 0;
  double worst = 0.0;
  for (const double start : starts) {
    double nearest = 1e9;
    for (const Segment& segment : run.transcript.segments) {
      if (segment.text.find("ellow Americans") == std::string::npos) continue;
      nearest = std::min(nearest, std::abs(segment.start - start));
    }
    if (nearest > 5.0) continue;  // not in the transcript
    ++found;
    worst = std::max(worst, nearest);
  }
  EXPECT_GE(found * 10, starts.size() * 9) << found << " of " << starts.size();
  EXPECT_LE(worst, 1.0);
  for (size_t i = 1; i < run.transcript.segments.size(); ++i) {
    EXPECT_GE(run.transcript.segments[i].start, run.transcript.segments[i - 1].start) << i;
  }
}

TEST(GoldenTranscribe, ResampledFilesGiveTheSameText) {
  KVASS_NEEDS_SPEECH_MODEL();
  if (!testing::long_tests()) GTEST_SKIP() << "set KVASS_LONG=1";
  for (const char* clip : {"en_8k", "en_44k_stereo"}) {
    const json all = golden(clip);
    const json& expected = all["runs"]["greedy_condition_default"];
    const Outcome run =
        transcribe_with(decode_audio(audio_of(all)).value(), options_of("greedy_condition_default", expected));
    ASSERT_EQ(run.transcript.segments.size(), expected["segments"].size()) << clip;
    for (size_t i = 0; i < run.transcript.segments.size(); ++i) {
      EXPECT_EQ(run.transcript.segments[i].text, expected["segments"][i]["text"].get<std::string>()) << clip;
      EXPECT_NEAR(run.transcript.segments[i].start, expected["segments"][i]["start"].get<double>(), 0.1) << clip;
      EXPECT_NEAR(run.transcript.segments[i].end, expected["segments"][i]["end"].get<double>(), 0.1) << clip;
    }
  }
}

TEST(GoldenTranscribe, CrossProjectionsRunOnceAWindow) {
  KVASS_NEEDS_SPEECH_MODEL();
  const json all = golden("en_short");
  SessionDecoder& decoder = *speech().decoder;
  const int64_t layers = speech().model.speech->shape.decoder_layers;
  const int64_t updates = decoder.session().executed(OpKind::update_cross_attn_cache);
  const int64_t windows = decoder.encoded_windows();
  TranscribeOptions options;
  options.language = "en";
  options.temperatures = {0.0f};
  transcribe_with(samples_of("en_short", all), options);  // with beams
  EXPECT_EQ(decoder.encoded_windows() - windows, 1);
  EXPECT_EQ(decoder.session().executed(OpKind::update_cross_attn_cache) - updates, layers);
}

TEST(GoldenTranscribe, SilenceAndScrapsAreEmptyTranscripts) {
  KVASS_NEEDS_SPEECH_MODEL();
  TranscribeOptions options;
  options.search.beam_size = 1;
  options.temperatures = {0.0f};
  for (const size_t size : {size_t{0}, size_t{100}, size_t{1600}, size_t{16000}}) {
    const Outcome run = transcribe_with(std::vector<int16_t>(size, 0), options);
    EXPECT_LE(run.windows.size(), 1u) << size;
    for (const Segment& segment : run.transcript.segments) EXPECT_LE(segment.end, 30.0);
  }
  options.vad = true;
  EXPECT_TRUE(transcribe_with(std::vector<int16_t>(160000, 0), options).windows.empty());
}

}  // namespace
}  // namespace kvass
