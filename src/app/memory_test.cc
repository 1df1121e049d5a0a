// A stream that has outrun its rings allocates nothing: not in steps, sampling or text, alone and in a batch; and what
// a plan says is what is mapped. Every malloc of the process is counted (operator new included), and its address space.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>

#include "app/batch.h"
#include "app/decode_loop.h"
#include "app/export.h"
#include "effort.h"
#include "tiny_model.h"

#if defined(__GLIBC__) && !KVASS_SANITIZED
#define KVASS_COUNTS_MALLOC 1
namespace {
std::atomic<int64_t> g_allocations{0};
}
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* data, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
void* malloc(size_t bytes) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, bytes);
}
void* realloc(void* data, size_t bytes) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(data, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, bytes);
}
}
#endif

#ifdef KVASS_COUNTS_MALLOC
namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

// Everything that is mapped, by mmap and brk, in bytes. Reading it allocates.
size_t mapped_bytes() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

class PlannedMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path =
        (std::filesystem::temp_directory_path() / ("kvass_memory_test_" + std::to_string(::getpid()) + ".gguf"))
            .string();
    ASSERT_TRUE(TinyModel().writer().write(path).ok());
    model_ = std::make_unique<OpenModel>(open_model(path, Math::a16, 2).value());
    planned_ = std::make_unique<PlannedModel>(PlannedModel::of(ModelFile::open(path).value()).value());
    std::filesystem::remove(path);
    options_.attention_sink = AttentionSink{4, 60};
    options_.chunk = 32;
    options_.threads = 2;
    sampling_.temperature = 1.5f;
    sampling_.top_k = 40;
    sampling_.top_p = 0.95f;
    sampling_.repeat_penalty = 1.1f;
  }

  std::unique_ptr<OpenModel> model_;
  std::unique_ptr<PlannedModel> planned_;
  StreamOptions options_;
  SampleOptions sampling_;
};

TEST_F(PlannedMemory, TheCounterCounts) {
  const int64_t before = g_allocations.load();
  const std::unique_ptr<int> one = std::make_unique<int>(1);
  asm volatile("" : : "g"(one.get()) : "memory");
  EXPECT_EQ(g_allocations.load() - before, 1);
}

TEST_F(PlannedMemory, AThousandTokensOfGenerateAllocateNothingOnceTheRingHasWrapped) {
  OpenStream stream = open_stream(*model_, options_, 1).value();
  DecodeOptions options;
  options.prompt = TinyModel().tokens(300);  // the ring of 192 slots has wrapped
  options.max_tokens = 1100;
  options.ignore_eos = true;
  options.collect = false;
  options.sampling = sampling_;
  options.stops = {"a text that does not come"};
  const std::atomic<bool> never{false};
  int64_t first = -1, last = -1, first_length = 0, last_length = 0;
  size_t mapped = 0;
  const auto on_text = [&](std::string_view) {
    const int64_t length = stream.sequence->length();
    if (first < 0 && length > 330) {
      mapped = mapped_bytes();
      first = g_allocations.load();
      first_length = length;
    }
    last = g_allocations.load();
    last_length = length;
    return true;
  };
  const Result<DecodeResult> result = generate(*model_, stream, options, on_text, never);
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_GE(last_length - first_length, 1000);
  EXPECT_EQ(last - first, 0);
  EXPECT_EQ(mapped_bytes(), mapped);
}

TEST_F(PlannedMemory, AThousandStepsOfABatchAllocateNothing) {
  constexpr size_t kSequences = 4;
  options_.sequences = kSequences;
  StreamBatch batch = open_batch(*model_, options_, sampling_).value();
  DecodeLoop loop(*batch.session, *model_->tokenizer);
  for (size_t i = 0; i < kSequences; ++i) {
    DecodeRequest request;
    request.options.prompt = {2, static_cast<int32_t>(7 + i)};
    request.options.ignore_eos = true;
    request.options.collect = false;
    request.options.sampling = sampling_;
    request.options.stops = {"a text that does not come"};
    if (i == 0) request.options.sampling = {};  // greedy beside the others
    request.sequence = batch.sequences[i].get();
    ASSERT_TRUE(loop.add(std::move(request)).ok());
  }
  int64_t before = 0, tokens = 0;
  size_t mapped = 0;
  for (int step = 0; step < 1300; ++step) {
    if (step == 300) {
      mapped = mapped_bytes();
      before = g_allocations.load();
    }
    const Result<std::span<const DecodeEvent>> events = loop.step();
    ASSERT_TRUE(events.ok());
    for (const DecodeEvent& event : events.value()) tokens += event.token >= 0 ? 1 : 0;
  }
  EXPECT_EQ(g_allocations.load() - before, 0);
  EXPECT_EQ(mapped_bytes(), mapped);
  EXPECT_EQ(tokens, 4 * 1300);
}

TEST_F(PlannedMemory, AThousandStepsOfAStaticProgramAllocateNothing) {
  const std::string base =
      (std::filesystem::temp_directory_path() / ("kvass_memory_test_" + std::to_string(::getpid()))).string();
  ASSERT_TRUE(TinyModel().writer().write(base + ".gguf").ok());
  ExportOptions options;
  options.model = base + ".gguf";
  options.out = base + ".kvp";
  options.stream = options_;
  options.multifunction = true;
  ASSERT_TRUE(export_program(options).ok());
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t before_open = mapped_bytes();
  const OpenModel model = open_model(options.out, Math::a16, 1).value();
  const StreamOptions own = model.defaults;
  const MemoryPlan plan = PlannedModel::of(ModelFile::open(options.out).value())->plan(own, 1).value();
  EXPECT_EQ(plan.weight_bytes, model.engine->weights().bytes());
  EXPECT_GE(mapped_bytes() - before_open, plan.weight_bytes);
  OpenStream stream = open_stream(model, own, 1).value();
  EXPECT_EQ(plan.arena_bytes, stream.arena_bytes());
  EXPECT_EQ(plan.cache_bytes(), stream.cache_bytes());
  std::vector<int32_t> tokens = TinyModel().tokens(32);
  kvass::Run run{stream.sequence.get(), 0, tokens};
  ASSERT_TRUE(stream.session->step({std::span(&run, 1)}).ok());
  const size_t mapped = mapped_bytes();
  const int64_t before = g_allocations.load();
  const int32_t row = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    run = {stream.sequence.get(), stream.sequence->length(), std::span(tokens).first(1)};
    const Result<StepResult> result = stream.session->step({.runs = {&run, 1}, .logits = {&row, 1}});
    ASSERT_TRUE(result.ok());
    const std::span<const float> logits = result->logits;
    tokens[0] = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  EXPECT_EQ(g_allocations.load() - before, 0);
  EXPECT_EQ(mapped_bytes(), mapped);
  // Each buffer by itself grows the address space by what the plan says, in whole pages.
  const size_t before_sequence = mapped_bytes();
  const CacheOptions caches = resolve_caches(own, model.trained_context).value();
  const std::unique_ptr<Sequence> sequence = Sequence::create(model.engine, caches).value();
  EXPECT_LE(mapped_bytes() - before_sequence, plan.cache_bytes() + page);
  std::filesystem::remove(base + ".gguf");
  std::filesystem::remove(base + ".kvp");
}

TEST_F(PlannedMemory, WhatAPlanSaysIsWhatIsMapped) {
  for (const int64_t sequences : {1, 3}) {
    options_.sequences = sequences;
    options_.kv = sequences == 3 ? DType::f32 : DType::f16;
    options_.chunk = 200;
    const MemoryPlan plan = planned_->plan(options_, 1).value();
    const StreamBatch batch = open_batch(*model_, options_, {}).value();
    EXPECT_EQ(plan.cache_bytes(), plan_of(*model_, batch).cache_bytes());
    EXPECT_EQ(plan.arena_bytes, batch.session->arena_bytes());
    EXPECT_EQ(plan.total_bytes(), plan_of(*model_, batch).total_bytes());
  }
  // The block of a cache is mapped by itself: the address space grows by it, in whole pages.
  options_.sequences = 1;
  options_.attention_sink = AttentionSink{4, 100'000};
  const CacheOptions caches = resolve_caches(options_, model_->trained_context).value();
  const size_t planned = planned_->plan(options_, 1)->caches.bytes;
  const size_t before = mapped_bytes();
  const std::unique_ptr<Sequence> sequence = Sequence::create(model_->engine, caches).value();
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  EXPECT_EQ(mapped_bytes() - before, (planned + page - 1) / page * page);
}

}  // namespace
}  // namespace kvass
#endif
