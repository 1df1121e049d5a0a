// The jobs behind the command line on a tiny model: options of a stream, scoring and generating.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "app/generate.h"
#include "app/open.h"
#include "app/score.h"
#include "app/stream_options.h"
#include "reference_model.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

template <class T>
std::string refusal(const Result<T>& result) {
  return result.ok() ? "" : result.status().message();
}
void expect_words(const std::string& message, std::initializer_list<const char*> words) {
  EXPECT_NE(message, "");
  for (const char* word : words)
    EXPECT_NE(message.find(word), std::string::npos) << "'" << message << "', '" << word << "'";
}

TEST(StreamOptions, AttentionSinkTakesExactlyTwoFieldsAndShowsTheForm) {
  const AttentionSink sink = parse_attention_sink("4,508").value();
  EXPECT_EQ(sink.sink_tokens, 4);
  EXPECT_EQ(sink.window, 508);
  EXPECT_EQ(parse_attention_sink("0,1").value().sink_tokens, 0);
  for (const char* text : {"", "4", "4,", ",508", "4,508,1", "4,0", "-1,508", "4,-508", "a,b", "4;508", "4, 508",
                           "4,508 ", "0x4,508", "99999999999999999999,1", "1e3,5"}) {
    expect_words(refusal(parse_attention_sink(text)), {"--attention-sink", "S,W"});
  }
}

TEST(StreamOptions, NamesOfTypesAndArithmetics) {
  EXPECT_EQ(parse_dtype("bf16").value(), DType::bf16);
  EXPECT_EQ(parse_math("a8").value(), Math::a8);
  EXPECT_EQ(math_name(Math::a16), "a16");
  expect_words(refusal(parse_dtype("f64")), {"--kv", "f32, f16, bf16 or q8", "f64"});
  expect_words(refusal(parse_math("")), {"--math", "f32, a16 or a8"});
}

TEST(StreamOptions, DefaultsFollowTheModelAndTheSinks) {
  StreamOptions options;
  EXPECT_EQ(resolve_caches(options, 32768)->context, 4096);
  EXPECT_EQ(resolve_caches(options, 2048)->context, 2048);
  EXPECT_FALSE(resolve_caches(options, 32768)->sinks);
  options.endless = true;
  CacheOptions caches = resolve_caches(options, 32768).value();
  EXPECT_TRUE(caches.sinks);
  EXPECT_EQ(caches.sink_tokens, 4);
  EXPECT_EQ(caches.sink_window, 4092);
  options.context = 512;
  caches = resolve_caches(options, 32768).value();
  EXPECT_EQ(caches.sink_window, 508);
  options.endless_sink_tokens = 30;
  EXPECT_EQ(resolve_caches(options, 32768)->sink_tokens, 30);
  EXPECT_EQ(resolve_caches(options, 32768)->sink_window, 482);
  options.endless_sink_tokens = 500;
  EXPECT_EQ(resolve_caches(options, 32768)->sink_tokens, 256) << "half the context";
  options = {};
  options.attention_sink = AttentionSink{2, 30};
  caches = resolve_caches(options, 32768).value();
  EXPECT_EQ(caches.context, 32);
  EXPECT_EQ(caches.sink_tokens, 2);
  EXPECT_EQ(caches.sink_window, 30);
}

TEST(StreamOptions, ImpossibleOnesAreRefusedByTheirFlags) {
  StreamOptions options;
  options.context = 0;
  expect_words(refusal(resolve_caches(options, 100)), {"--context"});
  options = {};
  options.chunk = 0;
  expect_words(refusal(resolve_caches(options, 100)), {"--chunk"});
  options = {};
  options.attention_sink = AttentionSink{4, 508};
  options.context = 511;
  expect_words(refusal(resolve_caches(options, 100)), {"--context", "512", "S,W", "511"});
  options = {};
  options.endless = true;
  options.context = 4;
  expect_words(refusal(resolve_caches(options, 100)), {"--context", "--endless"});
  expect_words(refusal(resolve_threads(-1)), {"--threads"});
  expect_words(refusal(resolve_threads(1 << 20)), {"--threads"});
  EXPECT_GE(resolve_threads(0).value(), 1);
  EXPECT_EQ(resolve_threads(3).value(), 3);
}

TEST(StreamOptions, HugeSinksAreRefusedBeforeTheyAreAdded) {
  EXPECT_TRUE(parse_attention_sink("1099511627776,1099511627776").ok());
  EXPECT_FALSE(parse_attention_sink("1099511627777,1").ok());
  EXPECT_FALSE(parse_attention_sink("9223372036854775807,9223372036854775807").ok());
}

// A tiny model in a file, opened once.
class Jobs : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    path_ =
        (std::filesystem::temp_directory_path() / ("kvass_app_test_" + std::to_string(::getpid()) + ".gguf")).string();
    const TinyModel tiny;
    ASSERT_TRUE(tiny.writer().write(path_).ok());
    model_ = std::make_unique<OpenModel>(open_model(path_, Math::f32, 2).value());
  }
  static void TearDownTestSuite() {
    model_.reset();
    std::filesystem::remove(path_);
  }
  static OpenStream stream(const StreamOptions& options, int64_t head_rows = kScoreHeadRows) {
    return open_stream(*model_, options, head_rows).value();
  }
  static DecodeResult run(OpenStream& stream, const DecodeOptions& options, std::string* text = nullptr) {
    return generate(
               *model_, stream, options,
               [&](std::string_view piece) {
                 if (text != nullptr) *text += piece;
                 return true;
               },
               never_)
        .value();
  }
  static DecodeOptions prompt(size_t tokens, int64_t most) {
    DecodeOptions options;
    options.prompt = TinyModel().tokens(tokens);
    options.max_tokens = most;
    options.ignore_eos = true;
    return options;
  }

  static inline std::string path_;
  static inline std::unique_ptr<OpenModel> model_;
  static inline const std::atomic<bool> never_{false};
};

TEST_F(Jobs, OpeningTellsWhatTheFileIs) {
  EXPECT_EQ(model_->family, "gemma3");
  EXPECT_EQ(model_->trained_context, 32768);
  EXPECT_EQ(model_->tokenizer->size(), 300);
  EXPECT_EQ(model_->tokenizer->decode(model_->tokenizer->encode("the and é\n")), "the and é\n");
  expect_words(refusal(open_model("/nowhere/model.gguf", Math::f32, 1)), {"/nowhere/model.gguf"});
  EXPECT_GT(peak_rss_bytes(), size_t{1} << 20);
}

TEST_F(Jobs, ScoreIsTheReferencesLossWhateverTheChunk) {
  const TinyModel tiny;
  const std::vector<int32_t> tokens = tiny.tokens(70);
  const std::vector<ReferenceModel::Row> reference = ReferenceModel(tiny).run(tokens);
  std::vector<double> first;
  for (const int64_t chunk : {256, 7, 16, 1}) {
    StreamOptions options;
    options.chunk = chunk;
    options.kv = DType::f32;
    OpenStream scored = stream(options);
    const ScoreResult result = score(scored, tokens, 5, {}, never_).value();
    ASSERT_EQ(result.nll.size(), tokens.size() - 1);
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      double most = -INFINITY, sum = 0.0;
      for (double logit : reference[i]) most = std::max(most, logit);
      for (double logit : reference[i]) sum += std::exp(logit - most);
      const double expected = most + std::log(sum) - reference[i][static_cast<size_t>(tokens[i + 1])];
      EXPECT_NEAR(result.nll[i], expected, 2e-4) << i;
    }
    if (first.empty()) first = result.nll;
    EXPECT_EQ(first, result.nll);  // bit for bit
    ASSERT_EQ(result.top.size(), 5u);
    const auto best = std::max_element(reference.back().begin(), reference.back().end());
    EXPECT_EQ(result.top[0].first, best - reference.back().begin());
    for (size_t i = 1; i < 5; ++i) EXPECT_GE(result.top[i - 1].second, result.top[i].second);
  }
}

TEST_F(Jobs, ScoreRefusesTooLittleAndTooMuchBeforeAnyWork) {
  StreamOptions options;
  options.context = 20;
  OpenStream scored = stream(options);
  expect_words(refusal(score(scored, TinyModel().tokens(1), 0, {}, never_)), {"at least 2 tokens"});
  expect_words(refusal(score(scored, TinyModel().tokens(21), 0, {}, never_)),
               {"20", "21", "--context", "--attention-sink"});
  EXPECT_EQ(scored.sequence->length(), 0);
  const std::atomic<bool> cancel{true};
  expect_words(refusal(score(scored, TinyModel().tokens(20), 0, {}, cancel)), {"interrupted"});
}

TEST_F(Jobs, GreedyTextIsTheSameForAnyChunkAndThreads) {
  const DecodeOptions options = prompt(50, 300);
  std::vector<int32_t> ids;
  for (const auto& [chunk, threads] : {std::pair(256, 1), {7, 2}, {1, 3}}) {
    StreamOptions how;
    how.attention_sink = AttentionSink{4, 30};
    how.chunk = chunk;
    how.threads = threads;
    OpenStream told = stream(how, 1);
    std::string text;
    const DecodeResult result = run(told, options, &text);
    EXPECT_EQ(result.reason, StopReason::max_tokens);
    EXPECT_EQ(result.tokens, 300);
    EXPECT_EQ(result.prompt_tokens, 50);
    EXPECT_EQ(result.text, text);
    EXPECT_EQ(text, model_->tokenizer->decode(result.ids));
    if (ids.empty()) ids = result.ids;
    EXPECT_EQ(ids, result.ids);
  }
}

TEST_F(Jobs, AFullCacheEndsTheStreamWithItsReason) {
  StreamOptions how;
  how.context = 60;
  OpenStream told = stream(how, 1);
  const DecodeResult result = run(told, prompt(50, 100));
  EXPECT_EQ(result.reason, StopReason::cache_full);
  EXPECT_EQ(result.tokens, 11);  // ten that were written and the one that did not fit
  expect_words(result.status.message(), {"cache full", "--attention-sink"});
  OpenStream small = stream(how, 1);
  expect_words(refusal(generate(
                   *model_, small, prompt(61, 1), [](std::string_view) { return true; }, never_)),
               {"60", "61", "--context"});
  EXPECT_EQ(small.sequence->length(), 0);
  expect_words(refusal(generate(
                   *model_, small, prompt(0, 1), [](std::string_view) { return true; }, never_)),
               {"prompt"});
}

TEST_F(Jobs, AReaderAStopTextAndASignalEndTheStream) {
  StreamOptions how;
  how.endless = true;
  how.context = 64;
  OpenStream told = stream(how, 1);
  const DecodeResult all = run(told, prompt(10, 80));
  ASSERT_GT(all.text.size(), 8u);

  OpenStream stopped = stream(how, 1);
  DecodeOptions options = prompt(10, 80);
  options.stops = {all.text.substr(5, 3)};
  const DecodeResult stop = run(stopped, options);
  EXPECT_EQ(stop.reason, StopReason::stop_text);
  EXPECT_EQ(stop.text, all.text.substr(0, all.text.find(options.stops[0])));

  OpenStream cancelled = stream(how, 1);
  int64_t pieces = 0;
  const DecodeResult result =
      generate(
          *model_, cancelled, prompt(10, 80), [&](std::string_view) { return ++pieces < 3; }, never_)
          .value();
  EXPECT_EQ(result.reason, StopReason::cancelled);
  EXPECT_EQ(pieces, 3);

  const std::atomic<bool> signal{true};
  OpenStream interrupted = stream(how, 1);
  const DecodeResult none = generate(
                                *model_, interrupted, prompt(10, 80), [](std::string_view) { return true; }, signal)
                                .value();
  EXPECT_EQ(none.reason, StopReason::cancelled);
  EXPECT_EQ(none.tokens, 0);
}

}  // namespace
}  // namespace kvass
