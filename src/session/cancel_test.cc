// A step that is cancelled in its middle, at any operator: it says so, and the stream goes on as if it had not been.
#include <gtest/gtest.h>

#include <atomic>

#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Cancel : public ::testing::Test {
 protected:
  // Sets the flag after so many operators of the session's next step.
  void cancel_after(Session& session, int64_t ops) {
    cancel_ = false;
    left_ = ops;
    session.set_probe([this](const ProbeView&) { cancel_ = cancel_ || --left_ <= 0; });
  }

  const TinyModel model_;
  const EnginePtr engine_ = tiny_engine(model_, Math::a16, best_isa());
  const std::vector<int32_t> tokens_ = model_.tokens(200);
  std::atomic<bool> cancel_{false};
  int64_t left_ = 0;
};

TEST_F(Cancel, AStreamGoesOnAsIfTheStepHadNotBeen) {
  for (const CacheOptions& caches : {sink_caches(4, 40, 16), flat_caches(256, 16)}) {
    for (const int threads : {1, 3}) {
      const auto session = make_session(engine_, 16, threads);
      const auto straight = make_sequence(engine_, caches), cut = make_sequence(engine_, caches);
      const std::vector<float> expected = run_chunks(*session, *straight, tokens_, {16});
      std::vector<float> logits;
      int64_t ops = 0;
      for (size_t at = 0; at < tokens_.size(); at += 16) {
        const auto count = std::min<size_t>(16, tokens_.size() - at);
        const StepRun run{cut.get(), cut->length(), std::span(tokens_).subspan(at, count)};
        const int32_t row = static_cast<int32_t>(count) - 1;
        for (int tries = 0; tries < 3; ++tries, ++ops) {
          cancel_after(*session, ops % 30);
          const Status status =
              session->step({.runs = std::span(&run, 1), .logits = std::span(&row, 1), .cancel = &cancel_}).status();
          if (status.ok()) FAIL() << "not cancelled after " << ops % 30 << " operators";
          EXPECT_EQ(status.code(), StatusCode::cancelled);
          EXPECT_EQ(cut->length(), static_cast<int64_t>(at));
        }
        session->set_probe(nullptr);
        const std::vector<float> chunk = run_chunks(*session, *cut, run.tokens, {16});
        logits.insert(logits.end(), chunk.begin(), chunk.end());
      }
      EXPECT_TRUE(logits == expected) << threads << " threads";
    }
  }
}

TEST_F(Cancel, AFlagThatIsNotSetChangesNothing) {
  const auto session = make_session(engine_, 16, 2);
  const auto plain = make_sequence(engine_, sink_caches(4, 40, 16)),
             asked = make_sequence(engine_, sink_caches(4, 40, 16));
  const std::vector<float> expected = run_chunks(*session, *plain, std::span(tokens_).first(16), {16});
  const StepRun run{asked.get(), 0, std::span(tokens_).first(16)};
  const int32_t row = 15;
  const Result<StepResult> step =
      session->step({.runs = std::span(&run, 1), .logits = std::span(&row, 1), .cancel = &cancel_});
  ASSERT_TRUE(step.ok()) << step.status().message();
  EXPECT_TRUE(std::equal(step->logits.begin(), step->logits.end(),
                         expected.end() - static_cast<std::ptrdiff_t>(step->logits.size())));
}

}  // namespace
}  // namespace kvass
