// Streams without end: rings that wrap, sinks that stay, and steps that allocate nothing.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <new>

#include "effort.h"
#include "seed.h"
#include "streams.h"

namespace {

std::atomic<int64_t> g_allocations{0};

void* counted(size_t bytes, size_t alignment) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  void* data = alignment == 0 ? std::malloc(bytes == 0 ? 1 : bytes)
                              : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

}  // namespace

void* operator new(size_t bytes) { return counted(bytes, 0); }
void* operator new[](size_t bytes) { return counted(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t alignment) { return counted(bytes, static_cast<size_t>(alignment)); }
void* operator new[](size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }
void operator delete[](void* data, size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete[](void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void* data, size_t, std::align_val_t) noexcept { std::free(data); }
void operator delete[](void* data, size_t, std::align_val_t) noexcept { std::free(data); }

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

const TinyModel& tiny() {
  static const TinyModel model;
  return model;
}

// Resident pages of this process, in bytes.
size_t resident_bytes() {
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

TEST(Sinks, RingsOfAnySizeGiveTheSameBitsAfterManyWraps) {
  Random random;
  const EnginePtr engine = tiny_engine(tiny(), Math::a16, best_isa());
  const std::vector<int32_t> tokens = tiny().tokens(900);
  struct Case {
    int64_t sink, window;
  };
  for (const auto& [sink, window] : {Case{4, 12}, {1, 1}, {0, 40}, {3, 100}, {64, 30}, {70, 65}}) {
    SCOPED_TRACE(::testing::Message() << "sinks " << sink << ", window " << window);
    const std::vector<float> small = run_stream(engine, sink_caches(sink, window, 1), tokens, {1});  // wraps often
    for (const int64_t chunk : {33, 150, 900}) {  // the last one never wraps
      const CacheOptions caches = sink_caches(sink, window, chunk);
      std::vector<int64_t> chunks;
      for (int i = 0; i < 900; ++i) chunks.push_back(random.integer(1, chunk));
      EXPECT_SAME_BITS(small, run_stream(engine, caches, tokens, chunks));
    }
  }
}

TEST(Sinks, AWindowThatHasNotFilledYetIsAnyLargerWindow) {
  const EnginePtr engine = tiny_engine(tiny(), Math::a16, best_isa());
  const std::vector<int32_t> tokens = tiny().tokens(64);
  const std::vector<float> small = run_stream(engine, sink_caches(4, 60, 16), tokens, {16});
  EXPECT_SAME_BITS(small, run_stream(engine, sink_caches(4, 500, 64), tokens, {64}));
  // One token more, and the first key after the sinks is out of sight.
  const std::vector<int32_t> longer = tiny().tokens(65);
  const std::vector<float> seen = run_stream(engine, sink_caches(4, 61, 16), longer, {16});
  const std::vector<float> forgotten = run_stream(engine, sink_caches(4, 60, 16), longer, {16});
  EXPECT_EQ(first_difference(seen, forgotten, 300), 64);
}

TEST(Sinks, ChunksAcrossTheSinksEdgeAndTheRingsTopEqualSingleTokens) {
  const EnginePtr engine = tiny_engine(tiny(), Math::f32, best_isa());
  const std::vector<int32_t> tokens = tiny().tokens(400);
  for (const int64_t sink : {5, 63, 65}) {
    const CacheOptions caches = sink_caches(sink, 33, 40);
    const std::vector<float> single = run_stream(engine, caches, tokens, {1});
    EXPECT_SAME_BITS(single, run_stream(engine, caches, tokens, {3, 40}));
    EXPECT_SAME_BITS(single, run_stream(engine, caches, tokens, {sink - 1 > 40 ? 40 : sink - 1, 2, 40}));
    EXPECT_SAME_BITS(single, run_stream(engine, caches, tokens, {17, 1, 39}));
  }
}

TEST(Sinks, AKeyThatLeftTheWindowIsForgottenAndASinkIsNot) {
  // With one full layer alone nothing carries old tokens forward but its cache.
  TinyConfig config;
  config.layers = 1;
  config.pattern = 2;
  config.window = 8;
  const TinyModel sliding(config);
  const EnginePtr engine = tiny_engine(sliding, Math::f32, best_isa());
  const std::vector<int32_t> tokens = sliding.tokens(30);
  std::vector<int32_t> changed = tokens;
  changed[10] = tokens[10] + 1 < 300 ? tokens[10] + 1 : 0;
  const std::vector<float> a = run_stream(engine, flat_caches(30, 30), tokens, {30});
  const std::vector<float> b = run_stream(engine, flat_caches(30, 30), changed, {30});
  for (size_t position = 0; position < 30; ++position) {
    const bool same = std::memcmp(a.data() + position * 300, b.data() + position * 300, 300 * sizeof(float)) == 0;
    EXPECT_EQ(same, position < 10 || position >= 18) << position;
  }
}

TEST(Sinks, BytesThatNoTokenWroteAreNeverLookedAt) {
  const EnginePtr engine = tiny_engine(tiny(), Math::a16, best_isa());
  const std::vector<int32_t> tokens = tiny().tokens(300);
  for (const CacheOptions& caches :
       {sink_caches(4, 12, 20), sink_caches(70, 30, 64, DType::f32), flat_caches(300, 50, DType::bf16)}) {
    const std::vector<float> clean = run_stream(engine, caches, tokens, {caches.chunk});
    const std::unique_ptr<Session> session = make_session(engine, caches.chunk);
    const std::unique_ptr<Sequence> sequence = make_sequence(engine, caches);
    std::memset(sequence->block(), 0xff, sequence->cache_bytes());  // NaN in every storage type
    EXPECT_SAME_BITS(clean, run_chunks(*session, *sequence, tokens, {caches.chunk}));
  }
}

TEST(Sinks, TwoThousandTokensAllocateNothingAfterTheFirstStep) {
  for (const Math math : {Math::a16, Math::f32}) {
    const EnginePtr engine = tiny_engine(tiny(), math, best_isa());
    const std::unique_ptr<Session> session = make_session(engine, 32, 2);
    const std::unique_ptr<Sequence> sequence = make_sequence(engine, sink_caches(4, 60, 32));
    const std::vector<int32_t> tokens = tiny().tokens(2000);
    const int32_t last = 0;
    size_t after_first = 0;
    int64_t allocations = 0;
    for (size_t at = 0; at < tokens.size();) {
      const size_t count = std::min<size_t>(at % 5 == 0 ? 32 : 1, tokens.size() - at);
      const int64_t before = g_allocations.load();
      const StepRun run{sequence.get(), sequence->length(), std::span(tokens).subspan(at, count)};
      const Status status = session->step({std::span(&run, 1)}).status();
      const Result<std::span<const float>> logits = logits_of(*session, std::span(&last, 1));
      if (at > 0) allocations += g_allocations.load() - before;
      ASSERT_TRUE(status.ok() && logits.ok());
      at += count;
      if (at > 300 && after_first == 0) after_first = resident_bytes();
    }
    EXPECT_EQ(allocations, 0);
    EXPECT_EQ(sequence->length(), 2000);
    if (!kSanitized) {
      EXPECT_LE(resident_bytes(), after_first + (size_t{256} << 10));
    }
  }
}

TEST(Sinks, PlannedBytesAreTheBytesThatAreMapped) {
  const EnginePtr engine = tiny_engine(tiny(), Math::a16, best_isa());
  for (const CacheOptions& caches : {sink_caches(4, 60, 32), flat_caches(500, 32), flat_caches(30, 30, DType::f32)}) {
    const std::unique_ptr<Sequence> sequence = make_sequence(engine, caches);
    EXPECT_EQ(sequence->cache_bytes(), plan_caches(engine->cache_shapes(), caches).value().bytes);
    size_t sum = 0;
    for (const LayerCache& layer : sequence->plan().layers) sum += layer.bytes();
    EXPECT_EQ(sequence->cache_bytes(), sum);
  }
  SessionOptions options;
  options.rows = 32;
  options.head_rows = 4;
  options.threads = 3;
  const std::unique_ptr<Session> session = Session::create(engine, options).value();
  EXPECT_EQ(session->arena_bytes(), plan_session_bytes(engine->program(), engine->math(), options).value());
}

}  // namespace
}  // namespace kvass
