// What the tests of the C API share: a tiny model in a .kvp with two methods, and sequences of it.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kvass/kvass.h"
#include "kvass/program_file.h"
#include "test_models.h"

namespace kvass::testing {

inline std::vector<int32_t> some_tokens(size_t count) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(i * 7919 % 290) + 3);
  return ids;
}

class CApi : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string gguf = write_tiny_text_model("c_api.gguf");
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
  const std::string path_ = temporary_file("c_api.kvp");
  const std::string snapshot_ = temporary_file("c_api.kvsnap");
};

}  // namespace kvass::testing
