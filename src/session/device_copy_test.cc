// Copies of streams inside a device's memory that fail midway: what the stream is afterwards, and that it goes on from
// there with the bits of a stream that never failed.
#include <gtest/gtest.h>

#include "device_memory.h"
#include "failing_device.h"
#include "scratch.h"
#include "session/snapshot.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class DeviceCopy : public ::testing::Test {
 protected:
  ~DeviceCopy() override { FailingDevice::repair(); }

  // Every layer full: two streams know what they have in common.
  void start(bool rings) {
    TinyConfig config;
    config.layers = 3;
    config.pattern = 2;
    config.kv_heads = 1;
    if (!rings) config = full_layers(config);
    model_ = std::make_unique<TinyModel>(config);
    engine_ = tiny_engine(*model_, Math::a16, best_isa())->on_device(FailingDevice::kernels()).value();
    session_ = make_session(engine_, 20);
    tokens_ = model_->tokens(120);
  }
  static TinyConfig full_layers(TinyConfig) {
    TinyConfig config = tiny_llama();
    config.layers = 2;
    return config;
  }
  std::vector<float> run(Sequence& sequence, int64_t from, int64_t count) {
    return run_chunks(*session_, sequence,
                      std::span(tokens_).subspan(static_cast<size_t>(from), static_cast<size_t>(count)), {20});
  }
  // The logits of tokens_[0, count) in a new stream.
  std::vector<float> fresh(const CacheOptions& caches, int64_t count) {
    return run(*make_sequence(engine_, caches), 0, count);
  }

  std::unique_ptr<TinyModel> model_;
  EnginePtr engine_;
  std::unique_ptr<Session> session_;
  std::vector<int32_t> tokens_;
};

TEST_F(DeviceCopy, AStreamThatLostItsKeysToAFailedCopyIsEmptyAndGoesOn) {
  start(/*rings=*/true);
  CacheOptions caches = sink_caches(4, 20, 20);
  caches.checkpoints = 1;
  const std::vector<float> expected = fresh(caches, 60);
  const auto source = make_sequence(engine_, caches);
  run(*source, 60, 60);
  for (const int64_t copies : {0, 1, 3}) {
    SCOPED_TRACE(copies);
    const auto stream = make_sequence(engine_, caches);
    run(*stream, 30, 60);
    ASSERT_TRUE(stream->checkpoint().ok());
    FailingDevice::fail_after(copies);
    const Status status = stream->copy_from(*source);
    FailingDevice::repair();
    ASSERT_EQ(status.code(), StatusCode::device) << status.message();
    EXPECT_EQ(stream->length(), 0);
    EXPECT_EQ(stream->rewind_floor(), 0);
    EXPECT_TRUE(stream->checkpoints().empty());
    EXPECT_EQ(source->length(), 60);
    EXPECT_SAME_BITS(expected, run(*stream, 0, 60));
    ASSERT_TRUE(stream->copy_from(*source).ok()) << "the same again, with a device that works";
    EXPECT_EQ(stream->length(), 60);
    EXPECT_SAME_BITS(run(*source->fork().value(), 0, 20), run(*stream, 0, 20));
  }
}

TEST_F(DeviceCopy, WhatBothStreamsHaveInCommonIsStillThere) {
  start(/*rings=*/false);
  const CacheOptions caches = flat_caches(120, 20);
  const auto source = make_sequence(engine_, caches);
  run(*source, 0, 40);
  const auto stream = source->fork().value();
  run(*source, 40, 30);
  run(*stream, 90, 25);
  const auto old = stream->fork().value();
  for (const int64_t copies : {0, 1, 2}) {
    SCOPED_TRACE(copies);
    FailingDevice::fail_after(copies);
    const Status status = stream->copy_from(*source);
    FailingDevice::repair();
    ASSERT_EQ(status.code(), StatusCode::device) << status.message();
    EXPECT_EQ(stream->length(), 40) << "the tokens that both had run as one stream";
    // What it had from there on is gone, and nobody takes it for what it was.
    ASSERT_TRUE(stream->copy_from(*old).ok());
    ASSERT_EQ(stream->length(), 65);
    EXPECT_SAME_BITS(run(*old->fork().value(), 0, 20), run(*stream, 0, 20));
    ASSERT_TRUE(stream->rewind(40).ok());
    EXPECT_SAME_BITS(run(*source->fork().value(), 70, 20), [&] {
      const auto again = stream->fork().value();
      run(*again, 40, 30);
      return run(*again, 70, 20);
    }());
    ASSERT_TRUE(stream->copy_from(*old).ok());
  }
}

TEST_F(DeviceCopy, AFailedForkLeavesTheOriginal) {
  start(/*rings=*/true);
  const CacheOptions caches = sink_caches(4, 20, 20);
  const auto stream = make_sequence(engine_, caches);
  run(*stream, 0, 50);
  FailingDevice::fail_after(1);
  EXPECT_EQ(stream->fork().status().code(), StatusCode::device);
  FailingDevice::repair();
  EXPECT_EQ(stream->length(), 50);
  const std::vector<float> expected = run(*stream->fork().value(), 50, 20);
  EXPECT_SAME_BITS(expected, run(*stream, 50, 20));
}

TEST_F(DeviceCopy, AFailedRestoreOfASnapshotLeavesAnEmptyStreamThatGoesOn) {
  start(/*rings=*/true);
  const CacheOptions caches = sink_caches(4, 20, 20);
  const Scratch scratch;
  const std::string path = scratch.file("stream.kvass");
  const auto saved = make_sequence(engine_, caches);
  run(*saved, 0, 50);
  ASSERT_TRUE(save_snapshot(*saved, {}, path).ok());
  const Snapshot snapshot = Snapshot::open(path).value();
  const auto stream = make_sequence(engine_, caches);
  run(*stream, 60, 40);
  FailingDevice::fail_after(2);
  EXPECT_EQ(snapshot.restore(*stream).code(), StatusCode::device);
  FailingDevice::repair();
  EXPECT_EQ(stream->length(), 0);
  EXPECT_SAME_BITS(fresh(caches, 40), run(*stream, 0, 40));
  ASSERT_TRUE(snapshot.restore(*stream).ok());
  EXPECT_EQ(stream->length(), 50);
  EXPECT_SAME_BITS(run(*saved, 50, 20), run(*stream, 50, 20));
}

TEST_F(DeviceCopy, AFailedRewindToACheckpointLeavesAnEmptyStreamThatGoesOn) {
  start(/*rings=*/true);
  CacheOptions caches = sink_caches(4, 20, 20);
  caches.checkpoints = 1;
  const auto stream = make_sequence(engine_, caches);
  run(*stream, 0, 40);
  ASSERT_TRUE(stream->checkpoint().ok());
  for (int64_t at = 40; at < 120; at += 20) run(*stream, at, 20);
  for (int64_t at = 0; at < 120; at += 20) run(*stream, at, 20);  // the rings have wrapped
  FailingDevice::fail_after(0);
  EXPECT_EQ(stream->rewind(40).code(), StatusCode::device);
  FailingDevice::repair();
  EXPECT_EQ(stream->length(), 0);
  EXPECT_TRUE(stream->checkpoints().empty());
  EXPECT_SAME_BITS(fresh(caches, 60), run(*stream, 0, 60));
}

TEST_F(DeviceCopy, AFailedCheckpointIsNone) {
  start(/*rings=*/true);
  CacheOptions caches = sink_caches(4, 20, 20);
  caches.checkpoints = 1;
  const auto stream = make_sequence(engine_, caches);
  run(*stream, 0, 40);
  FailingDevice::fail_after(1);
  EXPECT_EQ(stream->checkpoint().code(), StatusCode::device);
  FailingDevice::repair();
  EXPECT_TRUE(stream->checkpoints().empty());
  EXPECT_EQ(stream->length(), 40);
  const std::vector<float> expected = run(*stream->fork().value(), 40, 20);
  EXPECT_SAME_BITS(expected, run(*stream, 40, 20));
}

}  // namespace
}  // namespace kvass
