// Errors of the C API: every mistake is a code with a message, and leaves everything as it was.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "effort.h"
#include "kvass/kvass.h"
#include "test_c_api.h"

namespace kvass {
namespace {

using testing::some_tokens;
using testing::temporary_file;

class CErrors : public testing::CApi {};

TEST_F(CErrors, MistakesAreCodesWithMessages) {
  kvass_model* none = nullptr;
  EXPECT_EQ(kvass_load("/nowhere", nullptr, &none), KVASS_IO);
  EXPECT_NE(std::strstr(kvass_message(), "/nowhere"), nullptr);
  EXPECT_EQ(kvass_load("Model.gguf", nullptr, &none), KVASS_IO);
  EXPECT_NE(std::strstr(kvass_message(), "Model.gguf"), nullptr) << "a file is no field: " << kvass_message();
  EXPECT_EQ(kvass_load(nullptr, nullptr, &none), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_load(path_.c_str(), nullptr, nullptr), KVASS_BAD_INPUT);
  EXPECT_EQ(none, nullptr);
  kvass_sequence* one = sequence();
  EXPECT_STREQ(kvass_message(), "");
  std::vector<int32_t> tokens = some_tokens(17);
  EXPECT_EQ(kvass_run(one, nullptr, tokens.data(), 17), KVASS_BAD_INPUT) << "more than a run may bring";
  EXPECT_EQ(kvass_run(one, "decode", tokens.data(), 2), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "decode"), nullptr);
  EXPECT_EQ(kvass_run(one, "encode", tokens.data(), 2), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "prefill, decode"), nullptr);
  EXPECT_EQ(kvass_run(one, nullptr, nullptr, 2), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_run(one, nullptr, tokens.data(), 0), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_run(nullptr, nullptr, tokens.data(), 1), KVASS_BAD_INPUT);
  tokens[1] = 300;
  EXPECT_EQ(kvass_run(one, nullptr, tokens.data(), 2), KVASS_BAD_INPUT);
  const float* row = nullptr;
  EXPECT_EQ(kvass_logits(one, &row), KVASS_BAD_INPUT) << "nothing has run";
  EXPECT_EQ(kvass_resume(one, path_.c_str()), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_save(one, "/nowhere/s"), KVASS_IO);
  EXPECT_EQ(kvass_length(one), 0) << "as it was";
  kvass_sequence_free(one);
  kvass_sequence_free(nullptr);
  kvass_free(nullptr);
  EXPECT_EQ(kvass_vocabulary(nullptr), 0);
}

// The address space ends 64 MiB beyond what the process has.
class NoMoreMemory {
 public:
  NoMoreMemory() {
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    EXPECT_EQ(::getrlimit(RLIMIT_AS, &before_), 0);
    rlimit now = before_;
    now.rlim_cur = pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE)) + (size_t{64} << 20);
    EXPECT_EQ(::setrlimit(RLIMIT_AS, &now), 0);
  }
  ~NoMoreMemory() { EXPECT_EQ(::setrlimit(RLIMIT_AS, &before_), 0); }
  NoMoreMemory(const NoMoreMemory&) = delete;

 private:
  rlimit before_{};
};

TEST_F(CErrors, AMappingThatFailsIsOutOfMemoryWithItsBytes) {
  if (testing::kSanitized) GTEST_SKIP() << "the sanitizers map memory of their own";
  kvass_load_options load{};
  load.struct_size = sizeof load;
  load.threads = 1;
  load.max_context_len = int64_t{1} << 24;
  kvass_model* large = nullptr;
  ASSERT_EQ(kvass_load(path_.c_str(), &load, &large), KVASS_OK) << kvass_message();
  kvass_sequence* none = nullptr;
  {
    const NoMoreMemory limit;
    EXPECT_EQ(kvass_sequence_new(large, &none), KVASS_OUT_OF_MEMORY);
  }
  EXPECT_EQ(none, nullptr);
  EXPECT_NE(std::strstr(kvass_message(), " bytes of memory, got Cannot allocate memory"), nullptr) << kvass_message();
  kvass_sequence* fits = sequence();
  EXPECT_NE(fits, nullptr);
  kvass_sequence_free(fits);
  kvass_free(large);
}

TEST_F(CErrors, AModelFileThatIsCutOffIsAnIoErrorAndTheHostLives) {
  kvass_load_options load{};
  load.struct_size = sizeof load;
  load.threads = 1;
  load.huge_pages = 1;
  kvass_model* copied = nullptr;
  ASSERT_EQ(kvass_load(path_.c_str(), &load, &copied), KVASS_OK) << kvass_message();
  kvass_sequence *mapped = sequence(), *safe = nullptr;
  ASSERT_EQ(kvass_sequence_new(copied, &safe), KVASS_OK) << kvass_message();
  const std::vector<int32_t> tokens = some_tokens(8);
  ASSERT_EQ(kvass_run(mapped, nullptr, tokens.data(), 8), KVASS_OK) << kvass_message();
  std::filesystem::resize_file(path_, 4096);
  EXPECT_EQ(kvass_run(mapped, nullptr, tokens.data(), 8), KVASS_IO);
  EXPECT_NE(std::strstr(kvass_message(), path_.c_str()), nullptr) << kvass_message();
  EXPECT_NE(std::strstr(kvass_message(), "cut off at offset 4096"), nullptr) << kvass_message();
  EXPECT_EQ(kvass_length(mapped), 8);
  EXPECT_EQ(kvass_save(mapped, snapshot_.c_str()), KVASS_IO);
  EXPECT_EQ(kvass_run(safe, nullptr, tokens.data(), 8), KVASS_OK) << kvass_message();
  kvass_sequence_free(mapped);
  kvass_sequence_free(safe);
  kvass_free(copied);
}

TEST_F(CErrors, SizesThatCutAFieldOrHideOneAreRefused) {
  struct Newer {
    kvass_load_options known;
    int64_t later;
  } newer{};
  newer.known.threads = 1;
  const auto load = [&](size_t size) {
    newer.known.struct_size = size;
    kvass_model* model = nullptr;
    const kvass_code code = kvass_load(path_.c_str(), &newer.known, &model);
    kvass_free(model);
    return code;
  };
  EXPECT_EQ(load(9), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "struct_size: expected sizeof(kvass_load_options)"), nullptr)
      << kvass_message();
  EXPECT_EQ(load(SIZE_MAX & ~size_t{7}), KVASS_BAD_INPUT);
  EXPECT_EQ(load(sizeof newer), KVASS_OK) << kvass_message();
  newer.later = 1;
  EXPECT_EQ(load(sizeof newer), KVASS_BAD_INPUT) << "a field that this library does not know";
  EXPECT_EQ(load(sizeof newer.known), KVASS_OK);
  kvass_memory_plan plan{};
  EXPECT_EQ(kvass_plan(path_.c_str(), nullptr, nullptr, &plan, nullptr, 0), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "struct_size: expected sizeof(kvass_memory_plan)"), nullptr)
      << kvass_message();
  kvass_sequence* one = sequence();
  const std::vector<int32_t> tokens = some_tokens(3);
  kvass_generate_result result{};
  result.struct_size = 12;
  EXPECT_EQ(kvass_generate(one, tokens.data(), 3, nullptr, nullptr, nullptr, &result), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_length(one), 0);
  kvass_sequence_free(one);
}

TEST_F(CErrors, NumbersThatNoArrayHasAreRefused) {
  size_t count = 7;
  EXPECT_EQ(kvass_tokenize(model_, "a", SIZE_MAX, nullptr, 0, &count), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "text: expected at most "), nullptr) << kvass_message();
  EXPECT_EQ(count, 7u);
  kvass_sequence* one = sequence();
  const int32_t token = 5;
  double nll = 0.0;
  EXPECT_EQ(kvass_run(one, nullptr, &token, SIZE_MAX), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_append(one, &token, SIZE_MAX), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_score(one, &token, SIZE_MAX, &nll), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_generate(one, &token, SIZE_MAX, nullptr, nullptr, nullptr, nullptr), KVASS_BAD_INPUT);
  const kvass_part part{one, &token, SIZE_MAX};
  EXPECT_EQ(kvass_step(&part, 1), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_length(one), 0);
  kvass_sequence_free(one);
}

TEST_F(CErrors, MessagesHaveTheWordsOfC) {
  kvass_stream_options options{};
  options.struct_size = sizeof options;
  kvass_sequence* one = nullptr;
  const auto says = [&](const char* words) {
    EXPECT_EQ(kvass_sequence_open(model_, &options, &one), KVASS_BAD_INPUT);
    EXPECT_NE(std::strstr(kvass_message(), words), nullptr) << kvass_message();
    EXPECT_EQ(std::strstr(kvass_message(), "::"), nullptr) << kvass_message();
    EXPECT_EQ(std::strstr(kvass_message(), "Options."), nullptr) << kvass_message();
    options = {};
    options.struct_size = sizeof options;
  };
  options.sequences = 3;
  says("sequences: expected 1, for one stream is opened (a group has several), got 3");
  options.sink_tokens = 4;
  options.sink_window = INT64_MAX;
  says("sink_tokens, sink_window: expected 0 to 2^40 sink tokens and a window of 1 to 2^40");
  options.sink_positions = KVASS_SINKS_ORIGINAL;
  says("sink_positions: expected none without sink_tokens, sink_window or endless");
  options.endless_sink_tokens = 7;
  says("endless_sink_tokens: expected none but with endless");
  options.logit_rows = 1 << 20;
  says("logit_rows: expected 1 to 4096");
  kvass_generate_options generation{};
  generation.struct_size = sizeof generation;
  generation.ids_capacity = 5;
  one = sequence();
  EXPECT_EQ(kvass_generate(one, nullptr, 0, &generation, nullptr, nullptr, nullptr), KVASS_BAD_INPUT);
  EXPECT_NE(std::strstr(kvass_message(), "ids: expected a pointer"), nullptr) << kvass_message();
  kvass_sequence_free(one);
}

TEST_F(CErrors, AFullCacheHasItsCodeAndNamesTheFieldOfC) {
  kvass_sequence* full = sequence();
  const std::vector<int32_t> tokens = some_tokens(16);
  for (int i = 0; i < 6; ++i) ASSERT_EQ(kvass_run(full, nullptr, tokens.data(), 16), KVASS_OK) << kvass_message();
  EXPECT_EQ(kvass_run(full, nullptr, tokens.data(), 1), KVASS_CACHE_FULL);
  EXPECT_NE(std::strstr(kvass_message(), "raise max_context_len"), nullptr) << kvass_message();
  EXPECT_EQ(kvass_length(full), 96);
  kvass_sequence_free(full);
}

TEST_F(CErrors, WhatKvassDoesNotImplementIsUnsupported) {
  const std::string other = testing::write_model_of_nobody("c_api_other.gguf");
  kvass_model* none = nullptr;
  EXPECT_EQ(kvass_load(other.c_str(), nullptr, &none), KVASS_UNSUPPORTED);
  EXPECT_NE(std::strstr(kvass_message(), "abacus"), nullptr) << kvass_message();
  std::filesystem::remove(other);
}

}  // namespace
}  // namespace kvass
