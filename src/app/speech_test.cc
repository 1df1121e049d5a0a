// Transcribing without a model: a decoder whose logits say what the test wants it to say.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "app/speech_rules.h"
#include "app/speech_search.h"
#include "app/transcribe.h"
#include "app/transcript.h"
#include "app/word_times.h"
#include "damage.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

const SpeechTokenizer& tokens() {
  static const SpeechTokenizer tokenizer = [] {
    std::vector<std::string> text;
    for (int byte = 0; byte < 256; ++byte) text.push_back(std::string(1, static_cast<char>(byte)));
    return SpeechTokenizer::create(complete_speech_vocabulary("f", text, 256 + 1509 + 3).value()).value();
  }();
  return tokenizer;
}

int32_t time_at(double seconds) {
  return tokens().timestamp_begin() + static_cast<int32_t>(std::nearbyint(seconds / 0.02));
}

std::vector<int32_t> text_of(const std::string& text) { return {text.begin(), text.end()}; }

std::vector<int32_t> join(std::initializer_list<std::vector<int32_t>> parts) {
  std::vector<int32_t> out;
  for (const std::vector<int32_t>& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

// Says a text for each window, whatever the sequence: the next token of it has the largest logit.
class Parrot final : public SpeechDecoder {
 public:
  struct Window {
    std::vector<int32_t> says;
    double no_speech = 0.0;
    double sure = 20.0;  // logit of what it says
  };
  explicit Parrot(std::vector<Window> windows) : windows_(std::move(windows)) {}

  int64_t vocabulary() const override { return tokens().size(); }
  int64_t context() const override { return 448; }
  int64_t mel_bins() const override { return 80; }
  int64_t frames() const override { return 3000; }
  int64_t source_rows() const override { return 1500; }
  int64_t most_sequences() const override { return 5; }
  int64_t alignment_heads() const override { return 1; }

  Status encode(const float*) override {
    ++encoded;
    return {};
  }
  Result<std::span<const float>> prefill(std::span<const int32_t> prompt, std::span<const int32_t> rows) override {
    prompts.emplace_back(prompt.begin(), prompt.end());
    logits_.assign(rows.size() * size(), 0.0f);
    if (prompt.size() == 1) {  // the language
      logits_[static_cast<size_t>(tokens().language_id("de"))] = 10.0f;
      return std::span<const float>(logits_);
    }
    window_ = windows_[std::min(read_++, windows_.size() - 1)];
    if (window_.no_speech > 0.0) {
      logits_[static_cast<size_t>(tokens().no_speech())] =
          static_cast<float>(std::log(window_.no_speech / (1.0 - window_.no_speech) * static_cast<double>(size() - 1)));
    }
    written_ = {{}};
    say((rows.size() - 1) * size(), written_[0]);
    return std::span<const float>(logits_);
  }
  Result<std::span<const float>> step(std::span<const int32_t> parents, std::span<const int32_t> next) override {
    std::vector<std::vector<int32_t>> grown;
    logits_.assign(next.size() * size(), 0.0f);
    for (size_t i = 0; i < next.size(); ++i) {
      grown.push_back(written_[static_cast<size_t>(parents[i])]);
      grown.back().push_back(next[i]);
      say(i * size(), grown.back());
    }
    written_ = std::move(grown);
    return std::span<const float>(logits_);
  }
  // Token t is said over the source rows [10 t, 10 t + 10).
  Status align(std::span<const int32_t> ids, const std::function<void(int64_t, const float*)>& on_logits,
               float* attention) override {
    const std::vector<float> row(size(), 0.0f);
    std::fill_n(attention, ids.size() * 1500, 1e-4f);
    for (size_t i = 0; i < ids.size(); ++i) {
      for (size_t j = 0; j < 10; ++j) attention[i * 1500 + 10 * (i < 3 ? 0 : i - 3) + j] = 0.1f;
      on_logits(static_cast<int64_t>(i), row.data());
    }
    return {};
  }

  int encoded = 0;
  std::vector<std::vector<int32_t>> prompts;

 private:
  static size_t size() { return static_cast<size_t>(tokens().size()); }
  void say(size_t at, const std::vector<int32_t>& written) {
    const size_t next = written.size();
    const int32_t id = next < window_.says.size() ? window_.says[next] : tokens().end_of_text();
    logits_[at + static_cast<size_t>(id)] = static_cast<float>(window_.sure);
  }

  std::vector<Window> windows_;
  size_t read_ = 0;
  Window window_;
  std::vector<std::vector<int32_t>> written_;
  std::vector<float> logits_;
};

struct Outcome {
  Transcript transcript;
  std::vector<WindowReport> windows;
};

Outcome run(Parrot& parrot, double seconds, TranscribeOptions options = {}) {
  Outcome out;
  ThreadPool pool(1);
  const std::atomic<bool> never{false};
  TranscribeEvents events;
  events.on_window = [&](const WindowReport& window) { out.windows.push_back(window); };
  std::vector<int16_t> samples(static_cast<size_t>(seconds * 16000.0));
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<int16_t>((i * 7919) % 8000);
  Result<Transcript> result = transcribe(parrot, tokens(), samples, options, pool, events, never);
  EXPECT_TRUE(result.ok()) << result.status().message();
  if (result.ok()) out.transcript = std::move(result).value();
  return out;
}

TranscribeOptions greedy() {
  TranscribeOptions options;
  options.search.beam_size = 1;
  options.language = "en";
  return options;
}

SpeechRules rules() {
  SpeechRules rules;
  rules.tokenizer = &tokens();
  rules.suppressed.assign(tokens().suppressed().begin(), tokens().suppressed().end());
  rules.suppressed_first.assign(tokens().suppressed_first().begin(), tokens().suppressed_first().end());
  return rules;
}

std::vector<int32_t> allowed(const SpeechRules& rules, const std::vector<int32_t>& written, int32_t favourite = 'a') {
  std::vector<float> logits(static_cast<size_t>(tokens().size()), 0.0f);
  logits[static_cast<size_t>(favourite)] = 30.0f;
  rules.apply(written, logits);
  std::vector<int32_t> out;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > -INFINITY) out.push_back(static_cast<int32_t>(i));
  }
  return out;
}

TEST(SpeechRules, TheFirstTokenIsAnEarlyTime) {
  const std::vector<int32_t> first = allowed(rules(), {});
  EXPECT_EQ(first.front(), time_at(0.0));
  EXPECT_EQ(first.back(), time_at(1.0));
  EXPECT_EQ(first.size(), 51u);
}

TEST(SpeechRules, TimesComeInPairsAndNeverGoBack) {
  const auto has = [](const std::vector<int32_t>& ids, int32_t id) {
    return std::binary_search(ids.begin(), ids.end(), id);
  };
  // After the first time: text.
  std::vector<int32_t> next = allowed(rules(), {time_at(1.0)});
  EXPECT_TRUE(has(next, 'a'));
  EXPECT_FALSE(has(next, time_at(2.0)));
  EXPECT_FALSE(has(next, '('));
  // After text: text, or a time that is later.
  next = allowed(rules(), {time_at(1.0), 'a'});
  EXPECT_TRUE(has(next, 'b'));
  EXPECT_TRUE(has(next, tokens().end_of_text()));
  EXPECT_FALSE(has(next, time_at(1.0)));
  EXPECT_TRUE(has(next, time_at(1.02)));
  // After text and a time: the same or a later one, or the end.
  next = allowed(rules(), {time_at(1.0), 'a', time_at(2.0)}, tokens().end_of_text());
  EXPECT_FALSE(has(next, 'a'));
  EXPECT_TRUE(has(next, tokens().end_of_text()));
  EXPECT_TRUE(has(next, time_at(2.0)));
  EXPECT_FALSE(has(next, time_at(1.98)));
  // After a pair: text.
  next = allowed(rules(), {time_at(1.0), 'a', time_at(2.0), time_at(2.0)});
  EXPECT_FALSE(has(next, time_at(3.0)));
  EXPECT_TRUE(has(next, 'a'));
}

TEST(SpeechRules, TimesTogetherOutweighTheLikeliestText) {
  std::vector<float> logits(static_cast<size_t>(tokens().size()), 0.0f);
  logits['a'] = 5.0f;  // e^5 = 148 < 1500 times of e^0
  rules().apply(std::vector<int32_t>{time_at(0.0), 'b'}, logits);
  EXPECT_EQ(logits['a'], -INFINITY);
  EXPECT_EQ(logits[static_cast<size_t>(time_at(4.0))], 0.0f);
}

TEST(SpeechSearch, BeamsAndSamplesFindWhatIsLikeliest) {
  const std::vector<int32_t> says = join({{time_at(0.0)}, text_of(" hello"), {time_at(2.0)}});
  for (const int64_t beam : {1, 2, 5}) {
    for (const float temperature : {0.0f, 0.3f}) {
      Parrot parrot({{.says = says, .no_speech = 0.25}});
      const std::vector<int32_t> prompt = {tokens().start(), tokens().language_id("en"), tokens().transcribe()};
      const Result<SearchResult> found =
          search(parrot, prompt, rules(), {.beam_size = beam, .temperature = temperature});
      ASSERT_TRUE(found.ok()) << found.status().message();
      EXPECT_EQ(found->tokens, says) << beam << " " << temperature;
      EXPECT_NEAR(found->no_speech_prob, 0.25, 1e-4);
      EXPECT_GT(found->average(), -0.01);
    }
  }
}

TEST(SpeechSearch, StopsAtHalfTheContext) {
  Parrot parrot({{.says = std::vector<int32_t>(1000, 'a')}});
  const std::vector<int32_t> prompt = {tokens().start(), tokens().language_id("en"), tokens().transcribe()};
  SpeechRules plain = rules();
  plain.timestamps = false;
  for (const int64_t beam : {1, 3}) {
    EXPECT_EQ(search(parrot, prompt, plain, {.beam_size = beam})->tokens.size(), 224u);
  }
}

TEST(Transcribe, SegmentsEndAtPairsAndWindowsSeekToTheLast) {
  Parrot parrot({{.says = join({{time_at(0.5)},
                                text_of(" one"),
                                {time_at(4.0), time_at(4.0)},
                                text_of(" two"),
                                {time_at(20.0), time_at(20.0)},
                                text_of(" cut off")})},
                 {.says = join({{time_at(0.0)}, text_of(" three"), {time_at(10.0)}})}});
  const Outcome out = run(parrot, 40.0, greedy());
  ASSERT_EQ(out.transcript.segments.size(), 3u);
  EXPECT_EQ(out.transcript.segments[0].text, " one");
  EXPECT_DOUBLE_EQ(out.transcript.segments[0].start, 0.5);
  EXPECT_DOUBLE_EQ(out.transcript.segments[0].end, 4.0);
  EXPECT_EQ(out.transcript.segments[1].text, " two");
  EXPECT_DOUBLE_EQ(out.transcript.segments[2].start, 20.0);
  EXPECT_DOUBLE_EQ(out.transcript.segments[2].end, 30.0);
  ASSERT_EQ(out.windows.size(), 2u);
  EXPECT_EQ(out.windows[0].next_seek, 2000);
  EXPECT_EQ(out.windows[1].size, 2000);
  EXPECT_EQ(out.windows[1].next_seek, 4000);
  // The second window sees the segments of the first, without what was cut off.
  const std::vector<int32_t> start = {tokens().start(), tokens().language_id("en"), tokens().transcribe()};
  EXPECT_EQ(out.windows[0].prompt, start);
  EXPECT_EQ(out.windows[1].prompt, join({{tokens().previous(), time_at(0.5)},
                                         text_of(" one"),
                                         {time_at(4.0), time_at(4.0)},
                                         text_of(" two"),
                                         {time_at(20.0)},
                                         start}));
}

TEST(Transcribe, PreviousTextCanBeLeftOutAndAPromptComesFirst) {
  const std::vector<int32_t> says = join({{time_at(0.0)}, text_of(" one"), {time_at(30.0), time_at(30.0)}});
  TranscribeOptions options = greedy();
  options.condition_on_previous_text = false;
  options.initial_prompt = "hi";
  Parrot parrot({{.says = says}});
  const Outcome out = run(parrot, 60.0, options);
  const std::vector<int32_t> start = {tokens().start(), tokens().language_id("en"), tokens().transcribe()};
  ASSERT_EQ(out.windows.size(), 2u);
  EXPECT_EQ(out.windows[0].prompt, join({{tokens().previous()}, text_of(" hi"), start}));
  EXPECT_EQ(out.windows[1].prompt, start);
}

TEST(Transcribe, LanguageIsHeardOnceAndNamed) {
  Parrot parrot(std::vector<Parrot::Window>{{.says = {time_at(0.0)}}});
  TranscribeOptions options = greedy();
  options.language.clear();
  const Outcome out = run(parrot, 5.0, options);
  EXPECT_EQ(out.transcript.language, "de");
  EXPECT_GT(out.transcript.language_probability, 0.99);
  EXPECT_EQ(parrot.prompts[0], (std::vector<int32_t>{tokens().start()}));
  EXPECT_EQ(out.windows[0].prompt[1], tokens().language_id("de"));
  EXPECT_EQ(parrot.encoded, 2);  // the last frame is heard for the language only
  Parrot longer(std::vector<Parrot::Window>{{.says = {time_at(0.0)}}});
  run(longer, 40.0, options);
  EXPECT_EQ(longer.encoded, 2);  // two windows
}

TEST(Transcribe, ATextThatRepeatsItselfIsReadAgainAtHigherTemperatures) {
  std::string loop;
  for (int i = 0; i < 40; ++i) loop += " yes";
  Parrot parrot({{.says = join({{time_at(0.0)}, text_of(loop), {time_at(9.0)}})},
                 {.says = join({{time_at(0.0)}, text_of(loop), {time_at(9.0)}})},
                 {.says = join({{time_at(0.0)}, text_of(" quite another"), {time_at(9.0)}})}});
  const Outcome out = run(parrot, 10.0, greedy());
  ASSERT_EQ(out.windows.size(), 1u);
  EXPECT_FLOAT_EQ(out.windows[0].temperature, 0.4f);
  EXPECT_EQ(out.transcript.segments[0].text, " quite another");
  EXPECT_EQ(parrot.prompts.size(), 3u);
}

TEST(Transcribe, SilenceIsSkippedUnlessTheModelIsSure) {
  const std::vector<int32_t> says = join({{time_at(0.0)}, text_of(" thanks"), {time_at(9.0)}});
  Parrot doubtful({{.says = says, .no_speech = 0.9, .sure = 7.0}});
  EXPECT_TRUE(run(doubtful, 10.0, greedy()).transcript.segments.empty());
  EXPECT_EQ(doubtful.prompts.size(), 1u);  // silence is no reason to read again
  Parrot sure({{.says = says, .no_speech = 0.9}});
  EXPECT_EQ(run(sure, 10.0, greedy()).transcript.segments.size(), 1u);
}

TEST(Transcribe, AnEmptyRecordingIsAnEmptyTranscript) {
  Parrot parrot(std::vector<Parrot::Window>{{.says = {time_at(0.0)}}});
  const Outcome out = run(parrot, 0.0);
  EXPECT_TRUE(out.transcript.segments.empty());
  EXPECT_EQ(parrot.encoded, 0);
  EXPECT_EQ(out.transcript.duration, 0.0);
}

TEST(Transcribe, RefusesOptionsThatDoNotFit) {
  const auto message = [](TranscribeOptions options) { return check_options(options, tokens()).message(); };
  EXPECT_EQ(message(greedy()), "");
  TranscribeOptions options = greedy();
  options.language = "fr";
  expect_words(message(options), {"TranscribeOptions.language", "3 that this model knows", "fr"});
  options = greedy();
  options.temperatures = {-1.0f};
  expect_words(message(options), {"TranscribeOptions.temperatures", "-1"});
  options = greedy();
  options.search.beam_size = 0;
  expect_words(message(options), {"SearchOptions.beam_size", "1 to 64"});
  options = greedy();
  options.suppressed = {100000};
  expect_words(message(options), {"TranscribeOptions.suppressed", "100000"});
  options = greedy();
  options.initial_prompt = "a\xff";
  expect_words(message(options), {"TranscribeOptions.initial_prompt", "UTF-8"});
  options = greedy();
  options.search.temperature = 0.5f;
  expect_words(message(options), {"SearchOptions.temperature", "TranscribeOptions.temperatures"});
}

TEST(WordTimes, WordsFollowTheAttention) {
  // " a", " b.": tokens 10 source rows (0.2 s) apart.
  Parrot parrot({{.says = join({{time_at(0.0)}, text_of(" a b."), {time_at(3.0)}})}});
  TranscribeOptions options = greedy();
  options.word_timestamps = true;
  const Outcome out = run(parrot, 10.0, options);
  ASSERT_EQ(out.transcript.segments.size(), 1u);
  const std::vector<Word>& words = out.transcript.segments[0].words;
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[0].text, " a");
  EXPECT_EQ(words[1].text, " b.");
  EXPECT_NEAR(words[0].end, words[1].start, 1e-9);
  EXPECT_NEAR(words[1].probability, 1.0 / 256.0, 1e-6);
  EXPECT_EQ(out.transcript.segments[0].end, words[1].end);
}

TEST(WordTimes, WarpTakesTheCheapestPath) {
  const std::vector<float> matrix = {9,  9,  -1, -1, -1,  //
                                     -1, -1, 9,  -1, -1,  //
                                     -1, -1, -1, 9,  9};
  const std::vector<std::pair<int64_t, int64_t>> path = {{0, 0}, {0, 1}, {1, 2}, {2, 3}, {2, 4}};
  EXPECT_EQ(warp(matrix, 3, 5), path);
  std::vector<float> line = {1, 9, 2, 3, 8, 4, 5};
  median_filter(line, 1, 7, 3);
  EXPECT_EQ(line, (std::vector<float>{9, 2, 3, 3, 4, 5, 4}));
}

TEST(Transcript, FormatsAreAsPlayersReadThem) {
  Transcript transcript;
  transcript.language = "en";
  transcript.duration = 3700.0;
  Segment segment;
  segment.start = 1.5;
  segment.end = 3661.25;
  segment.text = " a --> b\tc";
  segment.tokens = {1, 2};
  segment.words = {{1.5, 2.0, " a", 0.5}};
  transcript.segments = {segment};
  EXPECT_EQ(transcript_text(TranscriptFormat::txt, transcript, "f"), "a --> b\tc\n");
  EXPECT_EQ(transcript_text(TranscriptFormat::srt, transcript, "f"), "1\n00:00:01,500 --> 01:01:01,250\na -> b\tc\n\n");
  EXPECT_EQ(transcript_text(TranscriptFormat::vtt, transcript, "f"),
            "WEBVTT\n\n00:01.500 --> 01:01:01.250\na -> b\tc\n\n");
  EXPECT_EQ(transcript_text(TranscriptFormat::tsv, transcript, "f"), "start\tend\ttext\n1500\t3661250\ta --> b c\n");
  const std::string json = transcript_text(TranscriptFormat::json, transcript, "f");
  for (const char* key :
       {"\"language\":\"en\"", "\"duration\":3700.0", "\"tokens\":[1,2]", "\"avg_logprob\"", "\"no_speech_prob\"",
        "\"temperature\"", "\"compression_ratio\"", "\"words\":[{\"end\":2.0,\"probability\":0.5"}) {
    EXPECT_NE(json.find(key), std::string::npos) << key << " in " << json;
  }
}

}  // namespace
}  // namespace kvass
