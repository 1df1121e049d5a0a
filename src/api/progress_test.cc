// What a caller hears while a prompt runs, and where things stand when it stops there: by a flag, or by an exception.
#include "test_api.h"

namespace {

using kvass::GenerateOptions;
using kvass::Generation;
using kvass::StatusCode;
using kvass::Stream;

class Progress : public kvass::testing::Api {
 protected:
  // Collects what it is called with, and does `last` at the call with that number of tokens.
  static std::function<void(int64_t)> heard(std::vector<int64_t>& calls, int64_t at, std::function<void()> last) {
    return [&calls, at, last = std::move(last)](int64_t done) {
      calls.push_back(done);
      if (done == at) last();
    };
  }
  static void raise() { throw std::runtime_error("mine"); }
  static std::vector<float> logits_after(std::span<const int32_t> ids) {
    Stream stream = open();
    EXPECT_TRUE(stream.step(ids).ok());
    return logits(stream);
  }
};

TEST_F(Progress, AStepTellsOfEachChunkAndStopsBetweenTwo) {
  const std::vector<int32_t> ids = tokens(40);
  std::vector<int64_t> calls;
  Stream whole = open();
  ASSERT_TRUE(whole.step(ids, nullptr, heard(calls, -1, {})).ok());
  EXPECT_EQ(calls, (std::vector<int64_t>{16, 32, 40}));
  EXPECT_EQ(logits(whole), logits_after(ids));

  Stream stopped = open();
  std::atomic<bool> cancel{false};
  calls.clear();
  refused(stopped.step(ids, &cancel, heard(calls, 32, [&] { cancel = true; })), StatusCode::cancelled, "32 of 40");
  EXPECT_EQ(calls, (std::vector<int64_t>{16, 32}));
  EXPECT_EQ(stopped.length(), 32);
  EXPECT_EQ(logits(stopped), logits_after(std::span(ids).first(32)));

  Stream thrown = open();
  refused(thrown.step(ids, nullptr, heard(calls, 16, raise)), StatusCode::internal, "mine");
  EXPECT_EQ(thrown.length(), 16);
  EXPECT_EQ(logits(thrown), logits_after(std::span(ids).first(16)));
}

TEST_F(Progress, WhatWasPendingIsNotCounted) {
  GenerateOptions options;
  options.ignore_eos = true;
  options.max_tokens = 1;
  Stream stream = open();
  ASSERT_TRUE(kvass::generate(stream, tokens(4), options).ok());  // its token is not in the caches yet
  std::vector<int64_t> calls;
  ASSERT_TRUE(stream.step(tokens(20), nullptr, heard(calls, -1, {})).ok());
  EXPECT_EQ(calls, (std::vector<int64_t>{15, 20}));
  EXPECT_EQ(stream.length(), 25);
}

TEST_F(Progress, APromptThatStopsGoesOnWithTheNextCall) {
  const std::vector<int32_t> ids = tokens(40);
  GenerateOptions options;
  options.ignore_eos = true;
  options.max_tokens = 6;
  Stream whole = open();
  const std::vector<int32_t> want = kvass::generate(whole, ids, options).value().ids;

  std::atomic<bool> cancel{false};
  std::vector<int64_t> calls;
  options.on_progress = heard(calls, 16, [&] { cancel = true; });
  Stream stream = open();
  Generation generation = Generation::begin(stream, ids, options, &cancel).value();
  EXPECT_FALSE(generation.next().value());
  const kvass::GenerateResult result = generation.end().value();
  EXPECT_EQ(result.reason, kvass::StopReason::cancelled);
  EXPECT_TRUE(result.ids.empty());
  EXPECT_EQ(calls, std::vector<int64_t>{16});
  EXPECT_EQ(stream.length(), 40) << "the rest is the stream's, though not in the caches yet";
  options.on_progress = {};
  EXPECT_EQ(kvass::generate(stream, std::span<const int32_t>(), options).value().ids, want);

  options.max_tokens = 0;
  options.on_progress = heard(calls, -1, {});
  calls.clear();
  Stream prompt_only = open();
  ASSERT_TRUE(kvass::generate(prompt_only, ids, options).ok());
  EXPECT_EQ(calls, (std::vector<int64_t>{16, 32, 40}));

  options.on_progress = heard(calls, 32, raise);
  for (const bool pulled : {false, true}) {
    Stream thrown = open();
    calls.clear();
    const kvass::Status status =
        pulled ? Generation::begin(thrown, ids, options).status() : kvass::generate(thrown, ids, options).status();
    refused(status, StatusCode::internal, "mine");
    EXPECT_EQ(calls, (std::vector<int64_t>{16, 32}));
    EXPECT_EQ(thrown.length(), 40);
    EXPECT_EQ(logits(thrown), logits_after(ids));
  }
  refused(kvass::generate_batch(*model_, {}, small(), options, {}).status(), StatusCode::unsupported,
          "GenerateOptions.on_progress");
}

TEST_F(Progress, AScoreThatStopsLeavesNoLogitsOfAnEarlierStep) {
  const std::vector<int32_t> ids = tokens(40);
  for (const bool throws : {false, true}) {
    Stream stream = open();
    ASSERT_TRUE(stream.step(tokens(3)).ok());
    Generation generation = Generation::begin(stream, {}).value();
    std::atomic<bool> cancel{false};
    kvass::ScoreOptions options;
    std::vector<int64_t> calls;
    options.on_progress = heard(calls, 16, [&] {
      if (throws) raise();
      cancel = true;
    });
    EXPECT_EQ(kvass::score(stream, ids, options, &cancel).status().code(),
              throws ? StatusCode::internal : StatusCode::cancelled);
    EXPECT_EQ(calls, std::vector<int64_t>{16});
    refused(stream.logits().status(), StatusCode::bad_input, "a step before");
    refused(generation.next().status(), StatusCode::bad_input, "nobody else");
  }
}

}  // namespace
