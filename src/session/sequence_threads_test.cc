// What may be read of a stream from any thread while a step runs, and forks that two sessions run at once.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include "effort.h"
#include "streams.h"
#include "tiny_encoder.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TEST(SequenceThreads, LengthAndFloorAreThoseOfAFinishedStepWhileOthersRun) {
  const TinyModel model;
  const EnginePtr engine = tiny_engine(model, Math::a16, best_isa());
  const CacheOptions caches = sink_caches(4, 20, 16);
  const auto stream = make_sequence(engine, caches);
  const auto session = make_session(engine, 16);
  const std::vector<int32_t> tokens = model.tokens(static_cast<size_t>(effort(2000, 300)));
  // What each may be: as a stream has it that nobody looks at.
  const std::vector<int64_t> chunks = {16, 1, 5};
  std::set<int64_t> lengths = {0}, floors = {0};
  {
    const auto alone = make_sequence(engine, caches);
    size_t i = 0;
    for (size_t at = 0; at < tokens.size(); ++i) {
      const size_t count = std::min(static_cast<size_t>(chunks[i % 3]), tokens.size() - at);
      alone->commit(static_cast<int64_t>(count));
      at += count;
      lengths.insert(alone->length());
      floors.insert(alone->rewind_floor());
    }
  }
  std::atomic<bool> done{false};
  std::atomic<int64_t> reads{0};
  std::thread reader([&] {
    int64_t last = 0;
    while (!done) {
      const int64_t length = stream->length(), floor = stream->rewind_floor();
      EXPECT_GE(length, last) << "it never goes back";
      EXPECT_TRUE(lengths.contains(length)) << length;
      EXPECT_TRUE(floors.contains(floor)) << floor;
      EXPECT_TRUE(stream->endless());
      last = length;
      ++reads;
    }
  });
  size_t i = 0;
  for (size_t at = 0; at < tokens.size(); ++i) {
    const size_t count = std::min(static_cast<size_t>(chunks[i % 3]), tokens.size() - at);
    const kvass::Run run{stream.get(), stream->length(), std::span(tokens).subspan(at, count)};
    const Status status = session->step({std::span(&run, 1)}).status();
    ASSERT_TRUE(status.ok()) << status.message() << " (a reader takes nobody's turn)";
    at += count;
  }
  while (reads == 0) std::this_thread::yield();
  done = true;
  reader.join();
}

// Forks of a stream whose encoder output no step has filled yet, each run by a session of its own at the same time.
TEST(SequenceThreads, ForksFillTheirEncoderOutputApart) {
  const TinyEncoder model;
  const std::shared_ptr<const Engine> engine = model.engine(best_isa());
  const CacheOptions caches = {.context = model.config().context, .chunk = 16, .dtype = DType::f32};
  const std::vector<float> input = model.input(140, 1);
  const std::array<int64_t, 2> shape = {model.config().channels, 140};
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5};
  const auto session = [&] { return Session::create(engine, {.rows = 16, .sequences = 1, .threads = 1}).value(); };
  const auto logits = [&](Session& by, Sequence& of) {
    const kvass::Run run{&of, of.length(), tokens};
    const Status status = by.step({std::span(&run, 1)}).status();
    EXPECT_TRUE(status.ok()) << status.message();
    const std::array<int32_t, 1> row = {4};
    const std::span<const float> values = by.step({.logits = row}).value().logits;
    return std::vector<float>(values.begin(), values.end());
  };
  constexpr size_t kForks = 4;
  std::vector<std::unique_ptr<Session>> sessions;
  for (size_t i = 0; i < kForks; ++i) sessions.push_back(session());
  const auto encoded = Sequence::create(engine, caches).value();
  ASSERT_TRUE(sessions[0]->encode(*encoded, {input.data(), DType::f32, shape}).ok());
  const std::vector<float> expected = logits(*sessions[0], *encoded);
  for (int round = 0; round < effort(30, 8); ++round) {
    std::vector<std::unique_ptr<Sequence>> streams(kForks);
    streams[0] = Sequence::create(engine, caches).value();
    ASSERT_TRUE(sessions[0]->encode(*streams[0], {input.data(), DType::f32, shape}).ok());
    for (size_t i = 1; i < kForks; ++i) {
      streams[i] = streams[i - 1]->fork().value();
      EXPECT_NE(streams[i]->cross(), streams[i - 1]->cross()) << "not filled: not shared";
      EXPECT_FALSE(streams[i]->cross()->filled());
    }
    std::vector<std::vector<float>> got(kForks);
    std::atomic<size_t> ready{0};
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kForks; ++i) {
      threads.emplace_back([&, i] {
        ++ready;
        while (ready < kForks) std::this_thread::yield();
        got[i] = logits(*sessions[i], *streams[i]);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < kForks; ++i) {
      ASSERT_EQ(got[i].size(), expected.size());
      EXPECT_EQ(std::memcmp(got[i].data(), expected.data(), expected.size() * sizeof(float)), 0) << i;
      EXPECT_TRUE(streams[i]->cross()->filled());
    }
    EXPECT_EQ(streams[0]->fork().value()->cross(), streams[0]->cross()) << "filled: shared";
  }
}

// One lets go of what it shares, in its own thread; the other then takes the memory for its next source.
TEST(SequenceThreads, EncoderOutputIsWrittenAgainOnlyWhenNobodyReadsIt) {
  const TinyEncoder model;
  const std::shared_ptr<const Engine> engine = model.engine(best_isa());
  const CacheOptions caches = {.context = model.config().context, .chunk = 16, .dtype = DType::f32};
  const std::vector<float> input = model.input(140, 1), other = model.input(80, 5);
  const std::array<int64_t, 2> shape = {model.config().channels, 140}, other_shape = {model.config().channels, 80};
  const std::vector<int32_t> tokens = {3, 1, 4};
  const SessionOptions options = {.rows = 16, .sequences = 1, .threads = 1};
  const auto one = Session::create(engine, options).value(), two = Session::create(engine, options).value();
  const auto step = [&](Session& by, Sequence& of) {
    const kvass::Run run{&of, of.length(), tokens};
    const Status status = by.step({std::span(&run, 1)}).status();
    EXPECT_TRUE(status.ok()) << status.message();
    const std::array<int32_t, 1> row = {2};
    const std::span<const float> values = by.step({.logits = row}).value().logits;
    return std::vector<float>(values.begin(), values.end());
  };
  std::vector<float> expected;
  for (int round = 0; round < effort(40, 10); ++round) {
    const auto stream = Sequence::create(engine, caches).value();
    ASSERT_TRUE(one->encode(*stream, {input.data(), DType::f32, shape}).ok());
    step(*one, *stream);
    auto fork = stream->fork().value();
    std::thread reader([&] {
      const std::vector<float> got = step(*two, *fork);
      if (expected.empty()) expected = got;
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), expected.size() * sizeof(float)), 0);
      fork.reset();
    });
    for (int i = 0; i < 3; ++i) {
      const Status status = one->encode(*stream, {other.data(), DType::f32, other_shape});
      EXPECT_TRUE(status.ok()) << status.message();
    }
    reader.join();
  }
}

}  // namespace
}  // namespace kvass
