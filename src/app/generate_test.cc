// One text on one stream, by a callback and token by token.
#include "app/generate.h"

#include <gtest/gtest.h>

#include "app/job_tests.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Generates : public Jobs {};

TEST_F(Generates, GreedyTextIsTheSameForAnyChunkAndThreads) {
  const GenerateOptions options = prompt(50, 300);
  std::vector<int32_t> ids;
  for (const auto& [chunk, threads] : {std::pair(256, 1), {7, 2}, {1, 3}}) {
    StreamOptions how;
    how.attention_sink = AttentionSink{4, 30};
    how.chunk = chunk;
    how.threads = threads;
    Stream told = stream(how);
    std::string text;
    const GenerateResult result = run(told, options, &text);
    EXPECT_EQ(result.reason, StopReason::max_tokens);
    EXPECT_EQ(result.tokens, 300);
    EXPECT_EQ(result.prompt_tokens, 50);
    EXPECT_EQ(result.text, text);
    EXPECT_EQ(text, model_->tokenizer->decode(result.ids));
    if (ids.empty()) ids = result.ids;
    EXPECT_EQ(ids, result.ids);
  }
}

TEST_F(Generates, AFullCacheEndsTheStreamWithItsReason) {
  StreamOptions how;
  how.context = 60;
  Stream told = stream(how);
  const GenerateResult result = run(told, prompt(50, 100));
  EXPECT_EQ(result.reason, StopReason::cache_full);
  EXPECT_EQ(result.tokens, 11);  // ten that were written and the one that did not fit
  expect_words(result.status.message(), {"cache full", "CacheOptions.sinks"});
  Stream small = stream(how);
  expect_words(refusal(generate(
                   *model_, small, prompt(61, 1), [](std::string_view) { return true; }, never_)),
               {"60", "61", "CacheOptions.context"});
  EXPECT_EQ(small.sequence->length(), 0);
  expect_words(refusal(generate(
                   *model_, small, prompt(0, 1), [](std::string_view) { return true; }, never_)),
               {"prompt"});
}

TEST_F(Generates, AReaderAStopTextAndASignalEndTheStream) {
  StreamOptions how;
  how.endless = true;
  how.context = 64;
  Stream told = stream(how);
  const GenerateResult all = run(told, prompt(10, 80));
  ASSERT_GT(all.text.size(), 8u);

  Stream stopped = stream(how);
  GenerateOptions options = prompt(10, 80);
  options.stops = {all.text.substr(5, 3)};
  const GenerateResult stop = run(stopped, options);
  EXPECT_EQ(stop.reason, StopReason::stop_text);
  EXPECT_EQ(stop.text, all.text.substr(0, all.text.find(options.stops[0])));

  Stream cancelled = stream(how);
  int64_t pieces = 0;
  const GenerateResult result =
      generate(
          *model_, cancelled, prompt(10, 80), [&](std::string_view) { return ++pieces < 3; }, never_)
          .value();
  EXPECT_EQ(result.reason, StopReason::cancelled);
  EXPECT_EQ(pieces, 3);

  const std::atomic<bool> signal{true};
  Stream interrupted = stream(how);
  const GenerateResult none = generate(
                                  *model_, interrupted, prompt(10, 80), [](std::string_view) { return true; }, signal)
                                  .value();
  EXPECT_EQ(none.reason, StopReason::cancelled);
  EXPECT_EQ(none.tokens, 0);
}

}  // namespace
}  // namespace kvass
