// One order of operations: the logits of every position are the same bits however the work was cut up.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "seed.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr int64_t kVocabulary = 300;
const TinyModel& tiny() {
  static const TinyModel model;
  return model;
}

std::vector<int64_t> random_chunks(Random& random, int64_t tokens, int64_t most) {
  std::vector<int64_t> chunks;
  for (int64_t left = tokens; left > 0; left -= chunks.back())
    chunks.push_back(random.integer(1, std::min(most, left)));
  return chunks;
}

bool all_finite(const std::vector<float>& values) {
  for (float value : values) {
    if (!std::isfinite(value)) return false;
  }
  return !values.empty();
}

class SameBits : public ::testing::TestWithParam<Math> {};

TEST_P(SameBits, PrefillEqualsDecodeEqualsAnyChunking) {
  Random random;
  const EnginePtr engine = tiny_engine(tiny(), GetParam(), best_isa());
  const std::vector<int32_t> tokens = tiny().tokens(200);
  for (const DType dtype : kDTypes) {
    SCOPED_TRACE(dtype_name(dtype));
    const CacheOptions caches = flat_caches(200, 200, dtype);
    const std::vector<float> prefill = run_stream(engine, caches, tokens, {200});
    EXPECT_TRUE(all_finite(prefill));
    for (const int64_t chunk : {1, 7, 64}) EXPECT_SAME_BITS(prefill, run_stream(engine, caches, tokens, {chunk}));
    for (int round = 0; round < 3; ++round) {
      EXPECT_SAME_BITS(prefill, run_stream(engine, caches, tokens, random_chunks(random, 200, 70)));
    }
  }
}

TEST_P(SameBits, APlannedChunkChangesTheRingButNoBit) {
  const EnginePtr engine = tiny_engine(tiny(), GetParam(), best_isa());
  const std::vector<int32_t> tokens = tiny().tokens(300);
  const std::vector<float> flat = run_stream(engine, flat_caches(300, 300), tokens, {300});
  for (const int64_t chunk : {1, 5, 64, 100}) {
    // Sliding layers get rings of 128 to 256 slots here, and none in the flat plan above.
    const CacheOptions caches = flat_caches(300, chunk);
    EXPECT_EQ(make_sequence(engine, caches)->plan().layers[0].layout.kind(), LayoutKind::ring);
    EXPECT_SAME_BITS(flat, run_stream(engine, caches, tokens, {chunk}));
  }
}

TEST_P(SameBits, ABatchOfSequencesEqualsEachAlone) {
  const EnginePtr engine = tiny_engine(tiny(), GetParam(), best_isa());
  constexpr size_t kStreams = 7;
  CacheOptions original = sink_caches(4, 20, 40), wrapped = sink_caches(6, 24, 90);
  original.sink_positions = SinkPositions::original;
  wrapped.sink_positions = SinkPositions::wrapped;
  const CacheOptions plans[kStreams] = {flat_caches(150, 40),
                                        sink_caches(4, 20, 40),
                                        flat_caches(400, 64),
                                        sink_caches(0, 30, 64),
                                        sink_caches(70, 16, 40),
                                        original,
                                        wrapped};
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<float>> alone, batched(kStreams);
  for (size_t i = 0; i < kStreams; ++i) {
    sequences.push_back(make_sequence(engine, plans[i]));
    tokens.push_back(tiny().tokens(100 + 10 * i, static_cast<uint32_t>(i)));
    alone.push_back(run_stream(engine, plans[i], tokens[i], {13}));
  }
  Random random;
  const std::unique_ptr<Session> session = make_session(engine, kStreams * 40, 2, kStreams);
  for (;;) {
    std::vector<size_t> who;  // a random choice, in random order
    for (size_t i = 0; i < kStreams; ++i) {
      if (random.integer(0, 3) > 0) who.insert(who.begin() + random.integer(0, static_cast<int64_t>(who.size())), i);
    }
    std::vector<StepRun> runs;
    for (size_t i : who) {
      const int64_t done = sequences[i]->length();
      // Half of them decode, the others bring a chunk of any length, none included.
      const int64_t wanted = random.integer(0, 1) == 0 ? 1 : random.integer(0, 40);
      const int64_t count = std::min(static_cast<int64_t>(tokens[i].size()) - done, wanted);
      runs.push_back({sequences[i].get(), done,
                      std::span(tokens[i]).subspan(static_cast<size_t>(done), static_cast<size_t>(count))});
    }
    const Status status = session->step({runs}).status();
    ASSERT_TRUE(status.ok()) << status.message();
    int64_t rows = 0;
    for (const StepRun& run : runs) rows += static_cast<int64_t>(run.tokens.size());
    std::vector<float> logits;
    append_logits(*session, rows, logits);
    auto at = logits.begin();
    for (size_t r = 0; r < runs.size(); ++r) {
      const auto end = at + static_cast<int64_t>(runs[r].tokens.size()) * kVocabulary;
      batched[who[r]].insert(batched[who[r]].end(), at, end);
      at = end;
    }
    bool finished = true;
    for (size_t i = 0; i < kStreams; ++i) finished = finished && batched[i].size() == alone[i].size();
    if (finished) break;
  }
  for (size_t i = 0; i < kStreams; ++i) {
    SCOPED_TRACE(::testing::Message() << "stream " << i);
    EXPECT_SAME_BITS(alone[i], batched[i]);
  }
}

TEST_P(SameBits, AnyNumberOfThreadsAndAnyInstructionSet) {
  const std::vector<int32_t> tokens = tiny().tokens(150);
  for (const DType dtype : kDTypes) {
    SCOPED_TRACE(dtype_name(dtype));
    const CacheOptions caches = sink_caches(4, 60, 50, dtype);
    const std::vector<float> scalar = run_stream(tiny_engine(tiny(), GetParam(), Isa::scalar), caches, tokens, {50});
    EXPECT_TRUE(all_finite(scalar));
    for (const Isa isa : available_isas()) {
      SCOPED_TRACE(isa_name(isa));
      const EnginePtr engine = tiny_engine(tiny(), GetParam(), isa);
      for (const int threads : {1, 2, 3, 8}) {
        EXPECT_SAME_BITS(scalar, run_stream(engine, caches, tokens, {50, 1, 1, 31, 17}, threads));
      }
    }
  }
}

TEST_P(SameBits, ASessionLeavesNothingBehindForTheNextStream) {
  const EnginePtr engine = tiny_engine(tiny(), GetParam(), best_isa());
  const std::vector<int32_t> tokens = tiny().tokens(90), others = tiny().tokens(90, 99);
  const CacheOptions caches = sink_caches(4, 20, 30);
  const std::vector<float> fresh = run_stream(engine, caches, tokens, {30});
  const std::unique_ptr<Session> session = make_session(engine, 30);
  const std::unique_ptr<Sequence> used = make_sequence(engine, caches), second = make_sequence(engine, caches);
  (void)run_chunks(*session, *used, others, {30});
  EXPECT_SAME_BITS(fresh, run_chunks(*session, *second, tokens, {30}));
  ASSERT_TRUE(used->clear().ok());
  EXPECT_EQ(used->length(), 0);
  EXPECT_SAME_BITS(fresh, run_chunks(*session, *used, tokens, {30}));
}

TEST_P(SameBits, LogitsOfARowDoNotDependOnWhichRowsAreAskedFor) {
  const EnginePtr engine = tiny_engine(tiny(), GetParam(), best_isa());
  const std::vector<int32_t> tokens = tiny().tokens(40);
  const std::unique_ptr<Session> session = make_session(engine, 40);
  const std::unique_ptr<Sequence> sequence = make_sequence(engine, flat_caches(40, 40));
  const std::vector<float> all = run_chunks(*session, *sequence, tokens, {40});
  for (const std::vector<int32_t>& rows : {std::vector<int32_t>{39}, {5, 0, 17}, {7, 7}, {}}) {
    const Result<std::span<const float>> logits = logits_of(*session, rows);
    ASSERT_TRUE(logits.ok()) << logits.status().message();
    ASSERT_EQ(logits->size(), rows.size() * kVocabulary);
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(std::memcmp(logits->data() + i * kVocabulary, all.data() + static_cast<size_t>(rows[i]) * kVocabulary,
                            kVocabulary * sizeof(float)),
                0);
    }
  }
}

TEST_P(SameBits, TheArgmaxIsThatOfAllLogits) {
  const std::vector<int32_t> tokens = tiny().tokens(40);
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(isa_name(isa));
    const EnginePtr engine = tiny_engine(tiny(), GetParam(), isa);
    const std::unique_ptr<Session> session = make_session(engine, 40);
    const std::unique_ptr<Sequence> sequence = make_sequence(engine, flat_caches(40, 40));
    const std::vector<float> all = run_chunks(*session, *sequence, tokens, {40});
    for (int32_t row = 0; row < 40; ++row) {
      const Argmax expected = argmax_for(Isa::scalar)(all.data() + static_cast<size_t>(row) * kVocabulary, kVocabulary);
      for (const std::vector<int32_t>& rows : {std::vector<int32_t>{row}, {3, row}}) {  // screened, and not
        const Result<StepResult> result = session->step({.argmax = rows});
        ASSERT_TRUE(result.ok()) << result.status().message();
        EXPECT_EQ(result->argmax.back().index, expected.index);
        EXPECT_EQ(result->argmax.back().value, expected.value);
      }
    }
  }
}

TEST(DifferentBits, StorageTypesAndArithmeticsAreNotTheSameBits) {  // otherwise the tests above compare nothing
  const std::vector<int32_t> tokens = tiny().tokens(40);
  std::vector<std::vector<float>> results;
  for (const Math math : {Math::f32, Math::a16, Math::a8}) {
    const EnginePtr engine = tiny_engine(tiny(), math, best_isa());
    for (const DType dtype : kDTypes) {
      results.push_back(run_stream(engine, flat_caches(40, 40, dtype), tokens, {40}));
      for (size_t i = 0; i + 1 < results.size(); ++i) EXPECT_NE(first_difference(results[i], results.back(), 300), -1);
    }
  }
}

std::string arithmetic_name(const ::testing::TestParamInfo<Math>& info) {
  constexpr std::array names = {"f32", "a16", "a8"};
  return names[static_cast<size_t>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(Arithmetic, SameBits, ::testing::Values(Math::f32, Math::a16, Math::a8), arithmetic_name);

}  // namespace
}  // namespace kvass
