// One text on one stream, by a callback and token by token.
#include "app/generate.h"

#include <gtest/gtest.h>

#include "app/test_jobs.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Generates : public Jobs {};

TEST_F(Generates, GreedyTextIsTheSameForAnyChunkAndThreads) {
  const DecodeOptions options = prompt(50, 300);
  std::vector<int32_t> ids;
  for (const auto& [chunk, threads] : {std::pair(256, 1), {7, 2}, {1, 3}}) {
    StreamOptions how;
    how.attention_sink = AttentionSink{4, 30};
    how.chunk = chunk;
    how.threads = threads;
    OpenStream told = stream(how);
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

TEST_F(Generates, AFullCacheEndsTheStreamWithItsReason) {
  StreamOptions how;
  how.context = 60;
  OpenStream told = stream(how);
  const DecodeResult result = run(told, prompt(50, 100));
  EXPECT_EQ(result.reason, StopReason::cache_full);
  EXPECT_EQ(result.tokens, 11);  // ten that were written and the one that did not fit
  expect_words(result.status.message(), {"cache full", "CacheOptions.sinks"});
  OpenStream small = stream(how);
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
  OpenStream told = stream(how);
  const DecodeResult all = run(told, prompt(10, 80));
  ASSERT_GT(all.text.size(), 8u);

  OpenStream stopped = stream(how);
  DecodeOptions options = prompt(10, 80);
  options.stops = {all.text.substr(5, 3)};
  const DecodeResult stop = run(stopped, options);
  EXPECT_EQ(stop.reason, StopReason::stop_text);
  EXPECT_EQ(stop.text, all.text.substr(0, all.text.find(options.stops[0])));

  OpenStream cancelled = stream(how);
  int64_t pieces = 0;
  const DecodeResult result =
      generate(
          *model_, cancelled, prompt(10, 80), [&](std::string_view) { return ++pieces < 3; }, never_)
          .value();
  EXPECT_EQ(result.reason, StopReason::cancelled);
  EXPECT_EQ(pieces, 3);

  const std::atomic<bool> signal{true};
  OpenStream interrupted = stream(how);
  const DecodeResult none = generate(
                                *model_, interrupted, prompt(10, 80), [](std::string_view) { return true; }, signal)
                                .value();
  EXPECT_EQ(none.reason, StopReason::cancelled);
  EXPECT_EQ(none.tokens, 0);
}

TEST_F(Generates, TokenByTokenIsTheSameText) {
  DecodeOptions options = prompt(50, 40);
  options.sampling.temperature = 1.2f;
  options.stops = {"a text that does not come"};
  OpenStream whole = stream({});
  const DecodeResult expected = run(whole, options);
  OpenStream stepped = stream({});
  const std::unique_ptr<TextGeneration> generation = TextGeneration::begin(*model_, stepped, nullptr, options).value();
  EXPECT_EQ(stepped.sequence->length(), 50) << "the prompt runs at once, and no more";
  std::vector<int32_t> ids;
  std::string text;
  while (generation->next().value()) {
    if (generation->token() >= 0) ids.push_back(generation->token());
    text += generation->piece();
  }
  EXPECT_FALSE(generation->next().value());
  const DecodeResult result = generation->end().value();
  EXPECT_EQ(ids, expected.ids);
  EXPECT_EQ(text, expected.text);
  EXPECT_EQ(result.ids, expected.ids);
  EXPECT_EQ(result.reason, StopReason::max_tokens);
}

TEST_F(Generates, AGenerationThatIsLeftBeforeItsFirstTokenHasNone) {
  DecodeOptions options = prompt(20, 40);
  options.keep_state = true;
  OpenStream left = stream({});
  const DecodeResult none = TextGeneration::begin(*model_, left, nullptr, options).value()->end().value();
  EXPECT_EQ(none.tokens, 0);
  EXPECT_EQ(none.state.pending, (std::vector<int32_t>{options.prompt.back()}));
  EXPECT_EQ(left.sequence->length(), 19);
  OpenStream whole = stream({});
  const DecodeResult expected = run(whole, options);
  options.prompt = {};
  options.resume = &none.state;
  EXPECT_EQ(run(left, options).ids, expected.ids);
}

// The callback may be a lambda of the call, with what it holds.
TEST_F(Generates, AGenerationOwnsItsCallback) {
  OpenStream told = stream({});
  const auto text = std::make_shared<std::string>();
  {
    const std::unique_ptr<TextGeneration> generation =
        TextGeneration::begin(*model_, told, nullptr, prompt(20, 10), [text](std::string_view piece) {
          *text += piece;
          return true;
        }).value();
    EXPECT_EQ(text.use_count(), 2);
    while (generation->next().value()) {
    }
    EXPECT_EQ(generation->end()->text, *text);
  }
  EXPECT_FALSE(text->empty());
  EXPECT_EQ(text.use_count(), 1);
}

}  // namespace
}  // namespace kvass
