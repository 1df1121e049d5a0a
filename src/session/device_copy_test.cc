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

  // Without rings every layer is full, and two streams know what they have in common.
  void start(bool rings) {
    TinyConfig config = rings ? TinyConfig() : tiny_llama();
    config.layers = 2;
    config.pattern = 2;
    model_ = std::make_unique<TinyModel>(config);
    engine_ = tiny_engine(*model_, Math::a16, best_isa())->on_device(FailingDevice::kernels()).value();
    session_ = make_session(engine_, 20);
    tokens_ = model_->tokens(120);
  }
  // tokens_[from, from + count) go into the stream; nobody asks for their logits, which costs most of the time.
  void fill(Sequence& sequence, size_t from, size_t count) {
    for (size_t at = from; at < from + count; at += kChunk) {
      const kvass::Run run{&sequence, sequence.length(),
                           std::span(tokens_).subspan(at, std::min(kChunk, from + count - at))};
      const Status status = session_->step({std::span(&run, 1)}).status();
      EXPECT_TRUE(status.ok()) << status.message();
    }
  }
  // Logits of three tokens that follow.
  std::vector<float> next(Sequence& sequence) {
    return run_chunks(*session_, sequence, std::span(tokens_).last(3), {3});
  }
  // The same in a new stream of tokens_[from, from + count).
  std::vector<float> fresh(const CacheOptions& caches, size_t from, size_t count) {
    const auto stream = make_sequence(engine_, caches);
    fill(*stream, from, count);
    return next(*stream);
  }

  static constexpr size_t kChunk = 20;
  std::unique_ptr<TinyModel> model_;
  EnginePtr engine_;
  std::unique_ptr<Session> session_;
  std::vector<int32_t> tokens_;
};

TEST_F(DeviceCopy, AStreamThatLostItsKeysToAFailedCopyIsEmptyAndGoesOn) {
  start(/*rings=*/true);
  CacheOptions caches = sink_caches(4, 20, kChunk);
  caches.checkpoints = 1;
  const std::vector<float> of_30 = fresh(caches, 0, 30), of_source = fresh(caches, 60, 40);
  const auto source = make_sequence(engine_, caches);
  fill(*source, 60, 40);
  for (const int64_t copies : {0, 3}) {
    SCOPED_TRACE(copies);
    const auto stream = make_sequence(engine_, caches);
    fill(*stream, 30, 50);
    ASSERT_TRUE(stream->checkpoint().ok());
    FailingDevice::fail_after(copies);
    const Status status = stream->copy_from(*source);
    FailingDevice::repair();
    ASSERT_EQ(status.code(), StatusCode::device) << status.message();
    EXPECT_EQ(stream->length(), 0);
    EXPECT_EQ(stream->rewind_floor(), 0);
    EXPECT_TRUE(stream->checkpoints().empty());
    EXPECT_EQ(source->length(), 40);
    fill(*stream, 0, 30);
    EXPECT_SAME_BITS(of_30, next(*stream));
    ASSERT_TRUE(stream->copy_from(*source).ok()) << "the same again, with a device that works";
    EXPECT_EQ(stream->length(), 40);
    EXPECT_SAME_BITS(of_source, next(*stream));
  }
}

TEST_F(DeviceCopy, WhatBothStreamsHaveInCommonIsStillThere) {
  start(/*rings=*/false);
  const CacheOptions caches = flat_caches(80, kChunk);
  const auto source = make_sequence(engine_, caches);
  fill(*source, 0, 20);
  const auto stream = source->fork().value();
  const std::vector<float> of_20 = fresh(caches, 0, 20);
  fill(*source, 20, 20);
  fill(*stream, 90, 15);
  const auto old = stream->fork().value();
  const std::vector<float> of_old = next(*old);
  ASSERT_TRUE(old->rewind(35).ok());
  for (const int64_t copies : {0, 2}) {
    SCOPED_TRACE(copies);
    FailingDevice::fail_after(copies);
    const Status status = stream->copy_from(*source);
    FailingDevice::repair();
    ASSERT_EQ(status.code(), StatusCode::device) << status.message();
    EXPECT_EQ(stream->length(), 20) << "the tokens that both had run as one stream";
    // What it had from there on is gone, and no copy takes it for what it was.
    ASSERT_TRUE(stream->copy_from(*old).ok());
    ASSERT_EQ(stream->length(), 35);
    EXPECT_SAME_BITS(of_old, next(*stream));
    ASSERT_TRUE(stream->rewind(20).ok());
    EXPECT_SAME_BITS(of_20, next(*stream));
    ASSERT_TRUE(stream->copy_from(*old).ok());
  }
}

TEST_F(DeviceCopy, AFailedForkLeavesTheOriginal) {
  start(/*rings=*/true);
  const CacheOptions caches = sink_caches(4, 20, kChunk);
  const auto stream = make_sequence(engine_, caches);
  fill(*stream, 0, 30);
  FailingDevice::fail_after(1);
  EXPECT_EQ(stream->fork().status().code(), StatusCode::device);
  FailingDevice::repair();
  EXPECT_EQ(stream->length(), 30);
  EXPECT_SAME_BITS(fresh(caches, 0, 30), next(*stream));
}

TEST_F(DeviceCopy, AFailedRestoreOfASnapshotLeavesAnEmptyStreamThatGoesOn) {
  start(/*rings=*/true);
  const CacheOptions caches = sink_caches(4, 20, kChunk);
  const Scratch scratch;
  const std::string path = scratch.file("stream.kvass");
  const auto saved = make_sequence(engine_, caches);
  fill(*saved, 0, 30);
  ASSERT_TRUE(save_snapshot(*saved, {}, path).ok());
  const Snapshot snapshot = Snapshot::open(path).value();
  const auto stream = make_sequence(engine_, caches);
  fill(*stream, 60, 40);
  FailingDevice::fail_after(2);
  EXPECT_EQ(snapshot.restore(*stream).code(), StatusCode::device);
  FailingDevice::repair();
  EXPECT_EQ(stream->length(), 0);
  fill(*stream, 0, 20);
  EXPECT_SAME_BITS(fresh(caches, 0, 20), next(*stream));
  ASSERT_TRUE(snapshot.restore(*stream).ok());
  EXPECT_EQ(stream->length(), 30);
  EXPECT_SAME_BITS(next(*saved), next(*stream));
}

TEST_F(DeviceCopy, AFailedRewindToACheckpointLeavesAnEmptyStreamThatGoesOn) {
  start(/*rings=*/true);
  CacheOptions caches = sink_caches(4, 20, kChunk);
  caches.checkpoints = 1;
  const auto stream = make_sequence(engine_, caches);
  fill(*stream, 0, 40);
  ASSERT_TRUE(stream->checkpoint().ok());
  while (stream->rewind_floor() <= 40) fill(*stream, 40, kChunk);  // the rings wrap
  FailingDevice::fail_after(0);
  EXPECT_EQ(stream->rewind(40).code(), StatusCode::device);
  FailingDevice::repair();
  EXPECT_EQ(stream->length(), 0);
  EXPECT_TRUE(stream->checkpoints().empty());
  fill(*stream, 0, 30);
  EXPECT_SAME_BITS(fresh(caches, 0, 30), next(*stream));
}

TEST_F(DeviceCopy, AFailedCheckpointIsNone) {
  start(/*rings=*/true);
  CacheOptions caches = sink_caches(4, 20, kChunk);
  caches.checkpoints = 1;
  const auto stream = make_sequence(engine_, caches);
  fill(*stream, 0, 30);
  FailingDevice::fail_after(1);
  EXPECT_EQ(stream->checkpoint().code(), StatusCode::device);
  FailingDevice::repair();
  EXPECT_TRUE(stream->checkpoints().empty());
  EXPECT_EQ(stream->length(), 30);
  EXPECT_SAME_BITS(fresh(caches, 0, 30), next(*stream));
}

}  // namespace
}  // namespace kvass
