// What the tests of the public C++ API share: a tiny model from a file, and streams of it. Public headers alone.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kvass/chat.h"
#include "kvass/generate.h"
#include "kvass/model.h"
#include "kvass/plan.h"
#include "kvass/program_file.h"
#include "kvass/score.h"
#include "kvass/stream.h"
#include "test_models.h"

namespace kvass::testing {

class Api : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    gguf_ = new std::string(write_tiny_text_model("api.gguf"));
    model_ = new Model(Model::load(*gguf_, {.threads = 1}).value());
  }
  static void TearDownTestSuite() {
    delete model_;
    std::remove(gguf_->c_str());
    delete gguf_;
  }
  void TearDown() override { std::remove(snapshot_.c_str()); }

  static StreamOptions small() {
    StreamOptions options;
    options.context = 96;
    options.chunk = 16;
    options.threads = 1;
    return options;
  }
  static Stream open(const StreamOptions& options = small()) {
    kvass::Result<Stream> stream = Stream::open(*model_, options);
    EXPECT_TRUE(stream.ok()) << stream.status().message();
    return std::move(stream).value();
  }
  static std::vector<int32_t> tokens(size_t count, int32_t seed = 7) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < count; ++i) {
      ids.push_back(static_cast<int32_t>((i * 7919 + static_cast<size_t>(seed) * 104729) % 290) + 3);
    }
    return ids;
  }
  static std::vector<float> logits(Stream& stream) {
    const kvass::Result<std::span<const float>> row = stream.logits();
    EXPECT_TRUE(row.ok()) << row.status().message();
    return row.ok() ? std::vector<float>(row.value().begin(), row.value().end()) : std::vector<float>();
  }
  // The message names `field`, the code is `code`.
  static void refused(const kvass::Status& status, StatusCode code, const std::string& field) {
    EXPECT_EQ(status.code(), code) << status.message();
    EXPECT_NE(status.message().find(field), std::string::npos) << status.message();
  }

  static inline std::string* gguf_ = nullptr;
  static inline Model* model_ = nullptr;
  const std::string snapshot_ = temporary_file("api.kvsnap");
};

}  // namespace kvass::testing
