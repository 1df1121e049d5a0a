// A device gives the bits of the CPU: whole tiny models, caches that wrap, batches, streams that go back or move from
// one to the other. The emulation of a device is slow, so that models and texts are as small as they can be.
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "device_memory.h"
#include "scratch.h"
#include "session/snapshot.h"
#include "streams.h"
#include "tiny_encoder.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// A sliding layer, a full one and another sliding one; every kind of weight.
TinyConfig small() {
  TinyConfig config;
  config.layers = 3;
  config.pattern = 2;
  config.kv_heads = 1;
  return config;
}

EnginePtr engine_on(const EnginePtr& engine, const DeviceKernels& device) {
  const Result<EnginePtr> result = engine->on_device(device);
  if (!result.ok()) ADD_FAILURE() << result.status().message();
  return result.ok() ? result.value() : nullptr;
}

class OnDevices : public ::testing::TestWithParam<const DeviceKernels*> {
 protected:
  const DeviceKernels& device() const { return *GetParam(); }
  // The same text on both, prefill and decode.
  void expect_same(const TinyModel& model, Math math, const CacheOptions& caches, size_t length,
                   const std::vector<int64_t>& chunks) {
    const EnginePtr cpu = tiny_engine(model, math, best_isa());
    const std::vector<int32_t> tokens = model.tokens(length);
    EXPECT_SAME_BITS(run_stream(cpu, caches, tokens, {caches.chunk}),
                     run_stream(engine_on(cpu, device()), caches, tokens, chunks));
  }
};

TEST_P(OnDevices, EveryArithmeticAndEveryStorageTypeGivesTheBitsOfTheCpu) {
  const TinyModel model(small());
  for (const DType dtype : kDTypes) {
    SCOPED_TRACE(dtype_name(dtype));
    expect_same(model, Math::a16, flat_caches(40, 20, dtype), 40, {17, 1, 2, 20});
  }
  for (const Math math : {Math::a8, Math::f32}) {
    SCOPED_TRACE(math_name(math));
    expect_same(model, math, flat_caches(40, 20), 40, {20, 1, 19});
  }
}

TEST_P(OnDevices, RingsThatWrapBesideSinksGiveTheBitsOfTheCpu) {
  const TinyModel model(small());
  CacheOptions caches = sink_caches(4, 40, 64);
  for (const SinkPositions positions : {SinkPositions::in_cache, SinkPositions::original, SinkPositions::wrapped}) {
    SCOPED_TRACE(sink_positions_name(positions));
    caches.sink_positions = positions;
    expect_same(model, Math::a16, caches, 230, {64, 64, 64, 1, 30, 7});
  }
  expect_same(model, Math::a8, flat_caches(230, 64, DType::q8), 230, {64});
}

TEST_P(OnDevices, OtherFamiliesGiveTheBitsOfTheCpu) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    SCOPED_TRACE(architecture);
    TinyConfig config = tiny_llama(architecture);
    config.layers = 2;
    expect_same(TinyModel(config), Math::a16, flat_caches(30, 20), 30, {20, 1, 9});
  }
  TinyConfig capped = small();
  capped.attention_cap = 20.0f;
  capped.logit_cap = 10.0f;
  capped.tied = false;
  expect_same(TinyModel(capped), Math::a16, flat_caches(30, 20), 30, {20, 1, 9});
}

TEST_P(OnDevices, ABatchOfSequencesEqualsEachAloneOnTheCpu) {
  const TinyModel model(small());
  const EnginePtr cpu = tiny_engine(model, Math::a16, best_isa()), engine = engine_on(cpu, device());
  const CacheOptions plans[] = {flat_caches(60, 16), sink_caches(4, 20, 16), sink_caches(0, 30, 16)};
  constexpr size_t kStreams = std::size(plans);
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<float>> batched(kStreams);
  for (size_t i = 0; i < kStreams; ++i) {
    sequences.push_back(make_sequence(engine, plans[i]));
    tokens.push_back(model.tokens(30 + 4 * i, static_cast<uint32_t>(i)));
  }
  const std::unique_ptr<Session> session = make_session(engine, kStreams * 16, 1, kStreams);
  const size_t cuts[][kStreams] = {{16, 1, 0}, {1, 16, 7}, {0, 1, 16}, {13, 16, 15}};
  for (const auto& cut : cuts) {
    std::vector<StepRun> runs;
    int64_t rows = 0;
    for (size_t i = 0; i < kStreams; ++i) {
      const auto done = static_cast<size_t>(sequences[i]->length());
      runs.push_back({sequences[i].get(), sequences[i]->length(), std::span(tokens[i]).subspan(done, cut[i])});
      rows += static_cast<int64_t>(cut[i]);
    }
    const Status status = session->step({runs}).status();
    ASSERT_TRUE(status.ok()) << status.message();
    std::vector<float> logits;
    append_logits(*session, rows, logits);
    auto at = logits.begin();
    for (size_t i = 0; i < kStreams; ++i) {
      const auto end = at + static_cast<int64_t>(cut[i]) * 300;
      batched[i].insert(batched[i].end(), at, end);
      at = end;
    }
  }
  for (size_t i = 0; i < kStreams; ++i) {
    SCOPED_TRACE(::testing::Message() << "stream " << i);
    EXPECT_SAME_BITS(run_stream(cpu, plans[i], tokens[i], {16}), batched[i]);
  }
}

TEST_P(OnDevices, AStreamThatIsSavedGoesOnElsewhereWithTheSameBits) {
  const Scratch scratch;
  const TinyModel model(small());
  const EnginePtr cpu = tiny_engine(model, Math::a16, best_isa()), there = engine_on(cpu, device());
  const std::vector<int32_t> tokens = model.tokens(60);
  const std::span<const int32_t> all(tokens);
  for (const DType dtype : {DType::f16, DType::q8}) {
    const CacheOptions caches = sink_caches(4, 20, 16, dtype);
    const std::vector<float> whole = run_stream(cpu, caches, tokens, {16});
    for (const bool begins_there : {true, false}) {
      const std::string path = scratch.file("stream");
      const EnginePtr first = begins_there ? there : cpu, second = begins_there ? cpu : there;
      const std::unique_ptr<Sequence> before = make_sequence(first, caches), after = make_sequence(second, caches);
      std::vector<float> logits = run_chunks(*make_session(first, 16), *before, all.first(35), {16});
      ASSERT_TRUE(save_snapshot(*before, {}, path).ok());
      const Result<Snapshot> snapshot = Snapshot::open(path);
      ASSERT_TRUE(snapshot.ok()) << snapshot.status().message();
      const Status restored = snapshot->restore(*after);
      ASSERT_TRUE(restored.ok()) << restored.message();
      const std::vector<float> rest = run_chunks(*make_session(second, 16), *after, all.subspan(35), {16, 1, 8});
      logits.insert(logits.end(), rest.begin(), rest.end());
      EXPECT_SAME_BITS(whole, logits);
    }
  }
}

TEST_P(OnDevices, SnapshotsOfTheSameStreamAreTheSameBytes) {
  const Scratch scratch;
  const TinyModel model(small());
  const EnginePtr cpu = tiny_engine(model, Math::a16, best_isa());
  const CacheOptions caches = sink_caches(4, 20, 16);
  const std::vector<int32_t> tokens = model.tokens(30);
  std::vector<std::vector<uint8_t>> files;
  for (const EnginePtr& engine : {cpu, engine_on(cpu, device())}) {
    const std::unique_ptr<Sequence> sequence = make_sequence(engine, caches);
    run_chunks(*make_session(engine, 16), *sequence, tokens, {16});
    const std::string path = scratch.file("stream");
    ASSERT_TRUE(save_snapshot(*sequence, {}, path).ok());
    const Result<FileMap> map = FileMap::open(path);
    ASSERT_TRUE(map.ok());
    files.emplace_back(map->bytes().begin(), map->bytes().end());
  }
  EXPECT_TRUE(files[0] == files[1]);
}

TEST_P(OnDevices, StreamsForkAndGoBack) {
  const TinyModel model(small());
  const EnginePtr engine = engine_on(tiny_engine(model, Math::a16, best_isa()), device());
  CacheOptions caches = sink_caches(4, 20, 64);
  caches.checkpoints = 1;
  const std::vector<int32_t> tokens = model.tokens(240);
  const std::span<const int32_t> all(tokens);
  const std::unique_ptr<Session> session = make_session(engine, 64);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine, caches);
  run_chunks(*session, *sequence, all.first(40), {40});
  ASSERT_TRUE(sequence->checkpoint().ok());
  const std::vector<float> next = run_chunks(*session, *sequence, all.subspan(40, 5), {5});
  std::unique_ptr<Sequence> fork = sequence->fork().value();
  const std::vector<float> after = run_chunks(*session, *sequence, all.subspan(45, 5), {5});
  EXPECT_SAME_BITS(after, run_chunks(*session, *fork, all.subspan(45, 5), {1, 4}));
  ASSERT_TRUE(fork->rewind(45).ok());
  EXPECT_SAME_BITS(after, run_chunks(*session, *fork, all.subspan(45, 5), {5}));
  run_chunks(*session, *sequence, all.subspan(50), {64});  // the rings have wrapped
  EXPECT_FALSE(sequence->rewind(45).ok());
  ASSERT_TRUE(sequence->rewind(40).ok());
  EXPECT_SAME_BITS(next, run_chunks(*session, *sequence, all.subspan(40, 5), {5}));
}

TEST_P(OnDevices, AProbeSeesTheValuesOfEveryOp) {
  const TinyModel model(small());
  const EnginePtr cpu = tiny_engine(model, Math::a16, best_isa());
  const std::vector<int32_t> tokens = model.tokens(12);
  std::vector<std::vector<float>> seen[2];
  int which = 0;
  for (const EnginePtr& engine : {cpu, engine_on(cpu, device())}) {
    const std::unique_ptr<Session> session = make_session(engine, 12);
    const std::unique_ptr<Sequence> sequence = make_sequence(engine, flat_caches(12, 12));
    session->set_probe(
        [&](const ProbeView& view) { seen[which].emplace_back(view.data, view.data + view.rows * view.width); });
    run_chunks(*session, *sequence, tokens, {12});
    ++which;
  }
  ASSERT_EQ(seen[0].size(), seen[1].size());
  for (size_t i = 0; i < seen[0].size(); ++i) {
    EXPECT_EQ(std::memcmp(seen[0][i].data(), seen[1][i].data(), seen[0][i].size() * sizeof(float)), 0) << "value " << i;
  }
}

TEST_P(OnDevices, ASessionTakesWhatIsPlannedForADevice) {
  const EnginePtr cpu = tiny_engine(TinyModel(small()), Math::a16, best_isa());
  SessionOptions options;
  options.rows = 30;
  options.head_rows = 2;
  options.sequences = 3;
  const auto planned = [&](Device where) {
    return plan_session_bytes(cpu->program(), Math::a16, options, where).value();
  };
  const auto taken = [&](const EnginePtr& engine) { return Session::create(engine, options).value()->arena_bytes(); };
  EXPECT_EQ(taken(engine_on(cpu, device())), planned(device().runtime->device));
  EXPECT_EQ(taken(cpu), planned(Device::cpu));
}

TEST_P(OnDevices, ProgramsWithAnEncoderAreRefused) {
  const std::string message = TinyEncoder().engine(best_isa())->on_device(device()).status().message();
  EXPECT_NE(message.find("runs on the CPU only"), std::string::npos) << message;
}

std::string device_of(const ::testing::TestParamInfo<const DeviceKernels*>& info) { return name_of(info.param); }
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OnDevices);  // where there is no device, not even an emulated one
INSTANTIATE_TEST_SUITE_P(Devices, OnDevices, ::testing::ValuesIn(test_devices()), device_of);

}  // namespace
}  // namespace kvass
