// A device that fails in the middle of a step: the stream goes on as if the step had not been, and it does not claim to
// hold what the step overwrote.
#include <gtest/gtest.h>

#include <optional>

#include "device_memory.h"
#include "scratch.h"
#include "session/snapshot.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// The emulated device, which can be told to fail.
bool g_fails_to_wait = false;
bool g_fails_to_allocate = false;

Status broken() { return Status::error(StatusCode::device, "the device is gone"); }

const DeviceKernels& fragile_device() {
  static const DeviceRuntime runtime = [] {
    DeviceRuntime made = *emulated::device_kernels.runtime;
    made.synchronise = [](DeviceStream stream) {
      return g_fails_to_wait ? broken() : emulated::device_kernels.runtime->synchronise(stream);
    };
    made.allocate = [](size_t bytes) -> Result<void*> {
      if (g_fails_to_allocate) return broken();
      return emulated::device_kernels.runtime->allocate(bytes);
    };
    return made;
  }();
  static const DeviceKernels kernels = [] {
    DeviceKernels made = emulated::device_kernels;
    made.runtime = &runtime;
    return made;
  }();
  return kernels;
}

class EmulatedFailure : public ::testing::Test {
 protected:
  EmulatedFailure() {
    TinyConfig config;
    config.layers = 3;
    config.pattern = 2;
    config.kv_heads = 1;
    model_.emplace(config);
    cpu_ = tiny_engine(*model_, Math::a16, best_isa());
    Result<EnginePtr> engine = cpu_->on_device(fragile_device());
    if (!engine.ok()) ADD_FAILURE() << engine.status().message();
    if (engine.ok()) engine_ = engine.value();
    tokens_ = model_->tokens(120);
  }
  ~EmulatedFailure() override { g_fails_to_wait = g_fails_to_allocate = false; }

  std::span<const int32_t> tokens(size_t begin, size_t count) const { return std::span(tokens_).subspan(begin, count); }
  // A step of these tokens in whose middle the device fails.
  static void fail(Session& session, Sequence& sequence, std::span<const int32_t> tokens) {
    const int64_t length = sequence.length();
    const StepRun run{&sequence, length, tokens};
    g_fails_to_wait = true;
    const Result<StepResult> result = session.step({std::span(&run, 1)});
    g_fails_to_wait = false;
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.status().code(), StatusCode::device);
    EXPECT_EQ(sequence.length(), length);
    const int32_t row = 0;  // of a step that has not been
    EXPECT_FALSE(session.step({.logits = std::span(&row, 1)}).ok());
  }

  std::optional<TinyModel> model_;
  EnginePtr cpu_, engine_;
  std::vector<int32_t> tokens_;
};

TEST_F(EmulatedFailure, AStreamGoesOnWithTheSameBits) {
  const CacheOptions caches = sink_caches(4, 20, 64);
  const std::vector<float> expected = run_stream(cpu_, caches, tokens_, {64});
  const std::unique_ptr<Session> session = make_session(engine_, 64);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine_, caches);
  std::vector<float> logits = run_chunks(*session, *sequence, tokens(0, 100), {50});
  fail(*session, *sequence, model_->tokens(64, 7));  // other tokens: a wrong key would show in the logits
  const std::vector<float> rest = run_chunks(*session, *sequence, tokens(100, 20), {20});
  logits.insert(logits.end(), rest.begin(), rest.end());
  EXPECT_SAME_BITS(expected, logits);
}

TEST_F(EmulatedFailure, AStreamGoesBackAsFarAsItStillHolds) {
  const CacheOptions caches = sink_caches(4, 20, 16);
  const std::vector<int32_t> all = model_->tokens(240);  // so many that the rings of 128 slots have lost some
  const std::vector<float> expected = run_stream(cpu_, caches, all, {16});
  const std::unique_ptr<Session> session = make_session(engine_, 16);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine_, caches);
  run_chunks(*session, *sequence, std::span(all).first(200), {16});
  const int64_t before = sequence->rewind_floor();
  fail(*session, *sequence, model_->tokens(16, 7));
  const int64_t floor = sequence->rewind_floor();
  EXPECT_GT(before, 0);
  EXPECT_GT(floor, before);
  EXPECT_FALSE(sequence->rewind(floor - 1).ok());
  ASSERT_TRUE(sequence->rewind(floor).ok());
  const std::vector<float> rest =
      run_chunks(*session, *sequence, std::span(all).subspan(static_cast<size_t>(floor)), {16});
  EXPECT_SAME_BITS(std::vector<float>(expected.begin() + floor * 300, expected.end()), rest);
}

// Copies between streams whose layers are full leave out what both have from the same step; a failed step has taken
// that away.
TEST_F(EmulatedFailure, ACopyBringsBackWhatTheStepOverwrote) {
  const CacheOptions caches = flat_caches(120, 120);  // so long a chunk makes rings of no use
  const std::vector<float> expected = run_stream(cpu_, caches, tokens_, {64});
  const std::unique_ptr<Session> session = make_session(engine_, 64);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine_, caches), other = make_sequence(engine_, caches);
  run_chunks(*session, *other, tokens(0, 50), {50});
  ASSERT_TRUE(sequence->copy_from(*other).ok());
  ASSERT_TRUE(sequence->rewind(30).ok());
  fail(*session, *sequence, model_->tokens(15, 7));
  ASSERT_TRUE(sequence->copy_from(*other).ok());
  const std::vector<float> rest = run_chunks(*session, *sequence, tokens(50, 70), {35});
  EXPECT_SAME_BITS(std::vector<float>(expected.begin() + 50 * 300, expected.end()), rest);
}

TEST_F(EmulatedFailure, MemoryThatCouldNotBeHadIsNotCounted) {
  const Scratch scratch;
  const CacheOptions caches = flat_caches(3000, 1);
  const std::string path = scratch.file("stream");
  const std::unique_ptr<Sequence> here = make_sequence(cpu_, flat_caches(3000, 1));
  const std::vector<int32_t> many = model_->tokens(2600);
  const std::unique_ptr<Session> fast = make_session(cpu_, 1);
  for (const int32_t& token : many) {
    const StepRun run{here.get(), here->length(), std::span(&token, 1)};
    ASSERT_TRUE(fast->step({std::span(&run, 1)}).ok());
  }
  ASSERT_TRUE(save_snapshot(*here, {}, path).ok());
  const std::unique_ptr<Sequence> sequence = make_sequence(engine_, caches);
  ASSERT_TRUE(Snapshot::open(path)->restore(*sequence).ok());
  const std::unique_ptr<Session> session = make_session(engine_, 1);  // planned for few keys
  const size_t planned = session->arena_bytes();
  const StepRun run{sequence.get(), 2600, tokens(0, 1)};
  g_fails_to_allocate = true;
  EXPECT_FALSE(session->step({std::span(&run, 1)}).ok());
  g_fails_to_allocate = false;
  EXPECT_EQ(session->arena_bytes(), planned);
  ASSERT_TRUE(session->step({std::span(&run, 1)}).ok());
  EXPECT_GT(session->arena_bytes(), planned);
}

}  // namespace
}  // namespace kvass
