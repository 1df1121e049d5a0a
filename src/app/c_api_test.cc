// The C API: what it gives is what the library gives, every mistake is a code, and threads do not meet.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <thread>

#include "app/export.h"
#include "effort.h"
#include "file/gguf_writer.h"
#include "kvass/kvass.h"
#include "tiny_kvp.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class CApi : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string gguf = temporary_path("c_api.gguf");
    ASSERT_TRUE(TinyModel().writer().write(gguf).ok());
    ExportOptions options;
    options.model = gguf;
    options.out = path_;
    options.stream.context = 96;
    options.stream.chunk = 16;
    options.stream.threads = 1;
    options.multifunction = true;
    ASSERT_TRUE(export_program(options).ok());
    std::filesystem::remove(gguf);
    kvass_load_options load{};
    load.struct_size = sizeof load;
    load.threads = 1;
    ASSERT_EQ(kvass_load(path_.c_str(), &load, &model_), KVASS_OK) << kvass_message();
  }
  ~CApi() override {
    kvass_free(model_);
    std::filesystem::remove(path_);
    std::filesystem::remove(snapshot_);
  }
  kvass_sequence* sequence() {
    kvass_sequence* made = nullptr;
    EXPECT_EQ(kvass_sequence_new(model_, &made), KVASS_OK) << kvass_message();
    return made;
  }
  std::vector<float> logits(kvass_sequence* of) {
    const float* row = nullptr;
    EXPECT_EQ(kvass_logits(of, &row), KVASS_OK) << kvass_message();
    return {row, row + kvass_vocabulary(model_)};
  }

  kvass_model* model_ = nullptr;
  const std::string path_ = temporary_path("c_api.kvp");
  const std::string snapshot_ = temporary_path("c_api.kvsnap");
};

TEST_F(CApi, MethodsGiveTheSameBitsAndStreamsGoOnAfterSaving) {
  const std::vector<int32_t> tokens = TinyModel().tokens(12);
  kvass_sequence *one = sequence(), *other = sequence();
  ASSERT_EQ(kvass_run(one, "prefill", tokens.data(), 12), KVASS_OK) << kvass_message();
  for (int32_t token : tokens) ASSERT_EQ(kvass_run(other, "decode", &token, 1), KVASS_OK) << kvass_message();
  EXPECT_EQ(logits(one), logits(other));
  EXPECT_EQ(kvass_length(one), 12);
  ASSERT_EQ(kvass_save(one, snapshot_.c_str()), KVASS_OK) << kvass_message();
  kvass_sequence* third = sequence();
  kvass_free(model_);  // sequences keep what they need
  ASSERT_EQ(kvass_load(path_.c_str(), nullptr, &model_), KVASS_OK);
  ASSERT_EQ(kvass_resume(third, snapshot_.c_str()), KVASS_OK) << kvass_message();
  const int32_t next = 7;
  ASSERT_EQ(kvass_run(one, nullptr, &next, 1), KVASS_OK);
  ASSERT_EQ(kvass_run(third, nullptr, &next, 1), KVASS_OK);
  EXPECT_EQ(logits(one), logits(third));
  ASSERT_EQ(kvass_rewind(one, 12), KVASS_OK);
  const float* row = nullptr;
  EXPECT_EQ(kvass_logits(one, &row), KVASS_BAD_INPUT);
  ASSERT_EQ(kvass_run(one, nullptr, &next, 1), KVASS_OK);
  EXPECT_EQ(logits(one), logits(third));
  for (kvass_sequence* made : {one, other, third}) kvass_sequence_free(made);
}

TEST_F(CApi, MistakesAreCodesWithMessages) {
  kvass_model* none = nullptr;
  EXPECT_EQ(kvass_load("/nowhere", nullptr, &none), KVASS_IO);
  EXPECT_NE(std::strstr(kvass_message(), "/nowhere"), nullptr);
  EXPECT_EQ(kvass_load(nullptr, nullptr, &none), KVASS_BAD_INPUT);
  EXPECT_EQ(kvass_load(path_.c_str(), nullptr, nullptr), KVASS_BAD_INPUT);
  EXPECT_EQ(none, nullptr);
  kvass_sequence* one = sequence();
  EXPECT_STREQ(kvass_message(), "");
  std::vector<int32_t> tokens = TinyModel().tokens(17);
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

TEST_F(CApi, AMappingThatFailsIsOutOfMemoryWithItsBytes) {
  if (kSanitized) GTEST_SKIP() << "the sanitizers map memory of their own";
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

TEST_F(CApi, AFullCacheHasItsCodeAndNamesTheFieldOfC) {
  kvass_sequence* full = sequence();
  const std::vector<int32_t> tokens = TinyModel().tokens(16);
  for (int i = 0; i < 6; ++i) ASSERT_EQ(kvass_run(full, nullptr, tokens.data(), 16), KVASS_OK) << kvass_message();
  EXPECT_EQ(kvass_run(full, nullptr, tokens.data(), 1), KVASS_CACHE_FULL);
  EXPECT_NE(std::strstr(kvass_message(), "raise max_context_len"), nullptr) << kvass_message();
  EXPECT_EQ(kvass_length(full), 96);
  kvass_sequence_free(full);
}

TEST_F(CApi, WhatKvassDoesNotImplementIsUnsupported) {
  GgufWriter writer;
  writer.str("general.architecture", "abacus");
  const std::string other = temporary_path("c_api_other.gguf");
  ASSERT_TRUE(writer.write(other).ok());
  kvass_model* none = nullptr;
  EXPECT_EQ(kvass_load(other.c_str(), nullptr, &none), KVASS_UNSUPPORTED);
  EXPECT_NE(std::strstr(kvass_message(), "abacus"), nullptr) << kvass_message();
  std::filesystem::remove(other);
}

TEST_F(CApi, TextBecomesTokensAndTokensText) {
  size_t count = 0;
  EXPECT_EQ(kvass_tokenize(model_, "the end", 7, nullptr, 0, &count), KVASS_BAD_INPUT);
  ASSERT_GT(count, 1u);
  std::vector<int32_t> tokens(count);
  ASSERT_EQ(kvass_tokenize(model_, "the end", 7, tokens.data(), count, &count), KVASS_OK);
  std::string text;
  for (int32_t token : tokens) {
    const char* bytes = nullptr;
    size_t size = 0;
    ASSERT_EQ(kvass_piece(model_, token, &bytes, &size), KVASS_OK);
    text.append(bytes, size);
  }
  EXPECT_NE(text.find("the end"), std::string::npos) << text;
}

TEST_F(CApi, SequencesOfDifferentThreadsDoNotMeet) {
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) {
    threads.emplace_back([&] {
      kvass_sequence* own = sequence();
      for (int32_t token : TinyModel().tokens(40)) ASSERT_EQ(kvass_run(own, nullptr, &token, 1), KVASS_OK);
      result = logits(own);
      kvass_sequence_free(own);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& result : results) EXPECT_EQ(result, results[0]);
}

}  // namespace
}  // namespace kvass
