// What a session and a sequence refuse, and that a refusal leaves everything as it was.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "session/snapshot.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Refusals : public ::testing::Test {
 protected:
  void SetUp() override {
    engine_ = tiny_engine(model_, Math::a16, best_isa());
    tokens_ = model_.tokens(60);
    expected_ = run_stream(engine_, caches_, tokens_, {20});
    session_ = make_session(engine_, 20, 2, 2);
    sequence_ = make_sequence(engine_, caches_);
    head_ = run_chunks(*session_, *sequence_, std::span(tokens_).first(40), {20});
  }
  // The refused steps above must not show: the rest of the stream is what it would have been.
  void TearDown() override {
    EXPECT_EQ(sequence_->length(), 40);
    std::vector<float> last;
    append_logits(*session_, 20, last);  // rows of the last good step are still there
    EXPECT_EQ(std::memcmp(last.data(), head_.data() + 20 * 300, last.size() * sizeof(float)), 0);
    const std::vector<float> rest = run_chunks(*session_, *sequence_, std::span(tokens_).subspan(40), {20});
    head_.insert(head_.end(), rest.begin(), rest.end());
    EXPECT_SAME_BITS(expected_, head_);
  }

  StepRun run(int64_t start, size_t count) { return {sequence_.get(), start, std::span(tokens_).subspan(0, count)}; }
  std::string step(std::initializer_list<StepRun> runs) {
    return session_->step({std::span(runs.begin(), runs.size())}).status().message();
  }
  static void expect_words(const std::string& message, std::initializer_list<const char*> words) {
    EXPECT_NE(message, "");
    for (const char* word : words)
      EXPECT_NE(message.find(word), std::string::npos) << "'" << message << "', '" << word << "'";
  }

  const TinyModel model_;
  EnginePtr engine_;
  CacheOptions caches_ = flat_caches(60, 20);
  std::vector<int32_t> tokens_;
  std::vector<float> expected_, head_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Sequence> sequence_;
};

TEST_F(Refusals, AGapAndAStepBack) {
  expect_words(step({run(41, 1)}), {"position of the next token", "40", "41"});
  expect_words(step({run(39, 1)}), {"position of the next token", "40", "39"});
  expect_words(step({run(0, 1)}), {"40", "got 0"});
  expect_words(step({run(-1, 1)}), {"40", "got -1"});
}

TEST_F(Refusals, AFullCacheNamesTheFields) {
  const std::unique_ptr<Sequence> full = make_sequence(engine_, caches_);
  const std::unique_ptr<Session> other = make_session(engine_, 20);
  EXPECT_SAME_BITS(expected_, run_chunks(*other, *full, tokens_, {20}));
  expect_words(step({{full.get(), 60, std::span(tokens_).first(1)}}),
               {"cache full", "CacheOptions.context", "CacheOptions.sinks"});
  const StepRun one{full.get(), 60, std::span(tokens_).first(1)};
  EXPECT_EQ(other->step({std::span(&one, 1)}).status().code(), StatusCode::cache_full);
  EXPECT_EQ(full->length(), 60);
}

TEST_F(Refusals, AChunkLongerThanPlannedAndAStepOfTooManyRows) {
  expect_words(step({run(40, 21)}), {"CacheOptions.chunk", "20", "21"});
  const std::unique_ptr<Sequence> second = make_sequence(engine_, caches_);
  expect_words(step({run(40, 15), {second.get(), 0, std::span(tokens_).first(6)}}), {"at most 20", "21"});
  EXPECT_EQ(second->length(), 0);
}

TEST_F(Refusals, AnUnknownTokenAnywhereInTheStep) {
  const std::vector<int32_t> high = {1, 2, 300}, low = {-1};
  expect_words(step({{sequence_.get(), 40, high}}), {"token", "299", "300"});
  expect_words(step({{sequence_.get(), 40, low}}), {"token", "-1"});
  const std::unique_ptr<Sequence> second = make_sequence(engine_, caches_);
  expect_words(step({run(40, 3), {second.get(), 0, high}}), {"token"});
  EXPECT_EQ(second->length(), 0);
}

TEST_F(Refusals, OneSequenceTwiceTooManyRunsAndNone) {
  expect_words(step({run(40, 1), run(41, 1)}), {"once"});
  const std::unique_ptr<Sequence> second = make_sequence(engine_, caches_), third = make_sequence(engine_, caches_);
  const std::span<const int32_t> one = std::span(tokens_).first(1);
  expect_words(step({run(40, 1), {second.get(), 0, one}, {third.get(), 0, one}}), {"at most 2", "3"});
  expect_words(step({{nullptr, 0, one}}), {"sequence of run 0"});
  EXPECT_EQ(second->length(), 0);
}

TEST_F(Refusals, ASequenceOfAnotherEngineOrAnotherStorageType) {
  const EnginePtr other = tiny_engine(model_, Math::a16, best_isa());
  const std::unique_ptr<Sequence> foreign = make_sequence(other, caches_);
  const std::unique_ptr<Sequence> wide = make_sequence(engine_, flat_caches(60, 20, DType::f32));
  const std::span<const int32_t> one = std::span(tokens_).first(1);
  expect_words(step({{foreign.get(), 0, one}}), {"engine"});
  expect_words(step({run(40, 1), {wide.get(), 0, one}}), {"storage type", "f16", "f32"});
  EXPECT_EQ(foreign->length() + wide->length(), 0);
}

TEST_F(Refusals, RowsOfLogitsThatTheLastStepDidNotHave) {
  for (const std::vector<int32_t>& rows : {std::vector<int32_t>{20}, {-1}, std::vector<int32_t>(21, 0)}) {
    EXPECT_FALSE(session_->step({.logits = rows}).ok());
  }
}

TEST_F(Refusals, ASecondCallerWhileAStepRuns) {
  const std::unique_ptr<Sequence> second = make_sequence(engine_, caches_), third = make_sequence(engine_, caches_);
  const std::unique_ptr<Session> busy = make_session(engine_, 20);
  std::string step_message, logits_message;
  StatusCode code{};
  busy->set_probe([&](const ProbeView&) {
    const StepRun inner{third.get(), 0, std::span(tokens_).first(1)};
    const Status refused = busy->step({std::span(&inner, 1)}).status();
    step_message = refused.message();
    code = refused.code();
    const int32_t row = 0;
    logits_message = busy->step({.logits = std::span(&row, 1)}).status().message();
  });
  const StepRun outer{second.get(), 0, std::span(tokens_).first(20)};
  ASSERT_TRUE(busy->step({std::span(&outer, 1)}).ok());
  expect_words(step_message, {"one caller at a time"});
  EXPECT_EQ(code, StatusCode::busy);
  expect_words(logits_message, {"one caller at a time"});
  EXPECT_EQ(third->length(), 0);
  busy->set_probe(nullptr);
  std::vector<float> logits;
  append_logits(*busy, 20, logits);
  EXPECT_EQ(std::memcmp(logits.data(), expected_.data(), logits.size() * sizeof(float)), 0);
}

TEST_F(Refusals, AnybodyElseAtASequenceThatAStepWorksWith) {
  const std::unique_ptr<Sequence> shared = make_sequence(engine_, caches_), other = make_sequence(engine_, caches_);
  const std::unique_ptr<Session> first = make_session(engine_, 20), second = make_session(engine_, 20, 2, 2);
  const std::span<const int32_t> one = std::span(tokens_).first(1);
  std::vector<std::string> messages;
  first->set_probe([&](const ProbeView&) {
    if (!messages.empty()) return;
    const StepRun both[] = {{other.get(), 0, one}, {shared.get(), 0, one}};
    for (const Status& status : {second->step({both}).status(), shared->rewind(0), shared->checkpoint(),
                                 shared->clear(), other->copy_from(*shared), shared->copy_from(*other),
                                 shared->fork().status(), save_snapshot(*shared, {}, "/dev/null/never")}) {
      EXPECT_EQ(status.code(), StatusCode::busy);
      messages.push_back(status.message());
    }
  });
  const StepRun outer{shared.get(), 0, std::span(tokens_).first(20)};
  ASSERT_TRUE(first->step({std::span(&outer, 1)}).ok());
  ASSERT_EQ(messages.size(), 8u);
  for (const std::string& message : messages) expect_words(message, {"sequence: expected one caller at a time"});
  EXPECT_EQ(shared->length(), 20);
  EXPECT_EQ(other->length(), 0);
  EXPECT_TRUE(other->copy_from(*shared).ok()) << "afterwards it is free again";
}

// Which of the threads gets the sequence is chance; that each step runs whole or not at all is not.
TEST_F(Refusals, TwoThreadsOnOneSequenceTakeTurnsOrAreToldOff) {
  const std::unique_ptr<Sequence> shared = make_sequence(engine_, caches_);
  std::atomic<int64_t> ran{0};
  const auto work = [&] {
    const std::unique_ptr<Session> mine = make_session(engine_, 20);
    for (int i = 0; i < 50; ++i) {
      const int64_t start = ran.load();
      if (start >= 60) return;
      const StepRun one{shared.get(), start, std::span(tokens_).subspan(static_cast<size_t>(start), 1)};
      if (mine->step({std::span(&one, 1)}).ok()) ran.fetch_add(1);
    }
  };
  std::thread second(work);
  work();
  second.join();
  ASSERT_EQ(shared->length(), ran.load());
  ASSERT_GT(ran.load(), 0);
  const std::unique_ptr<Sequence> alone = make_sequence(engine_, caches_);
  ASSERT_TRUE(alone->copy_from(*shared).ok());
}

TEST_F(Refusals, SessionsAndSequencesThatCannotBe) {
  const auto session = [&](std::function<void(SessionOptions&)> change) {
    SessionOptions options;
    change(options);
    return Session::create(engine_, options).status().message();
  };
  expect_words(session([](SessionOptions& o) { o.threads = 0; }), {"SessionOptions.threads"});
  expect_words(session([](SessionOptions& o) { o.sequences = 0; }), {"sequences"});
  expect_words(session([](SessionOptions& o) { o.rows = 0; }), {"rows"});
  expect_words(session([](SessionOptions& o) { o.head_rows = 0; }), {"rows"});
  expect_words(session([](SessionOptions& o) { o.rows = int64_t{1} << 60; }), {"rows"});
  expect_words(session([](SessionOptions& o) { o.head_rows = std::numeric_limits<int64_t>::max(); }), {"rows"});
  EXPECT_FALSE(Sequence::create(engine_, flat_caches(0, 20)).ok());
  EXPECT_FALSE(Sequence::create(engine_, flat_caches(int64_t{1} << 62, 20)).ok());
}

TEST(Steps, AnEmptyStepChangesNothing) {
  const TinyModel model;
  const EnginePtr engine = tiny_engine(model, Math::a16, best_isa());
  const std::unique_ptr<Session> session = make_session(engine, 10);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine, flat_caches(30, 10));
  const std::vector<int32_t> tokens = model.tokens(30);
  std::vector<float> logits = run_chunks(*session, *sequence, std::span(tokens).first(10), {10});
  const StepRun nothing{sequence.get(), 10, {}};
  EXPECT_TRUE(session->step({std::span(&nothing, 1)}).ok());
  EXPECT_TRUE(session->step({}).ok());
  EXPECT_EQ(sequence->length(), 10);
  const std::vector<float> rest = run_chunks(*session, *sequence, std::span(tokens).subspan(10), {10});
  logits.insert(logits.end(), rest.begin(), rest.end());
  EXPECT_SAME_BITS(logits, run_stream(engine, flat_caches(30, 10), tokens, {10}));
}

TEST(Probe, SeesEveryValueOfTheProgramWithItsRows) {
  const TinyModel model;
  const EnginePtr engine = tiny_engine(model, Math::a16, best_isa());
  const std::unique_ptr<Session> session = make_session(engine, 10);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine, flat_caches(30, 10));
  std::vector<int> seen(engine->program().values.size(), 0);
  session->set_probe([&](const ProbeView& view) {
    ++seen[static_cast<size_t>(view.value)];
    const Value& value = engine->program().values[static_cast<size_t>(view.value)];
    EXPECT_EQ(view.width, value.width);
    EXPECT_EQ(view.rows, 6);
  });
  const std::vector<int32_t> tokens = model.tokens(6);
  (void)run_chunks(*session, *sequence, tokens, {6});
  for (int count : seen) EXPECT_LE(count, 1);
  EXPECT_EQ(seen[static_cast<size_t>(engine->program().logits)], 1);
  EXPECT_EQ(seen[static_cast<size_t>(engine->program().argmax())], 0);  // it was not asked for
  const std::vector<int32_t> rows = {0, 1, 2, 3, 4, 5};
  ASSERT_TRUE(session->step({.argmax = rows}).ok());  // it sees all logits of these too
  EXPECT_EQ(seen[static_cast<size_t>(engine->program().logits)], 2);
  EXPECT_EQ(seen[static_cast<size_t>(engine->program().hidden)], 1);
  for (int count : seen) EXPECT_GE(count, 1);
}

}  // namespace
}  // namespace kvass
