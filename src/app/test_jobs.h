// What the tests of the jobs share: a tiny model that was opened from a file, and the words of a message.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>

#include "app/generate.h"
#include "app/open.h"
#include "tiny_model.h"

namespace kvass::testing {

template <class T>
std::string refusal(const Result<T>& result) {
  return result.ok() ? "" : result.status().message();
}
inline void expect_words(const std::string& message, std::initializer_list<const char*> words) {
  EXPECT_NE(message, "");
  for (const char* word : words)
    EXPECT_NE(message.find(word), std::string::npos) << "'" << message << "', '" << word << "'";
}

// A tiny model in a file, opened once.
class Jobs : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    path_ =
        (std::filesystem::temp_directory_path() / ("kvass_jobs_test_" + std::to_string(::getpid()) + ".gguf")).string();
    const TinyModel tiny;
    ASSERT_TRUE(tiny.writer().write(path_).ok());
    model_ = std::make_unique<OpenModel>(open_model(path_, Math::f32, 2).value());
  }
  static void TearDownTestSuite() {
    model_.reset();
    std::filesystem::remove(path_);
  }
  static OpenStream stream(const StreamOptions& options, int64_t head_rows = 1) {
    return open_stream(*model_, options, head_rows).value();
  }
  static DecodeResult run(OpenStream& stream, const DecodeOptions& options, std::string* text = nullptr) {
    return generate(
               *model_, stream, options,
               [&](std::string_view piece) {
                 if (text != nullptr) *text += piece;
                 return true;
               },
               never_)
        .value();
  }
  static DecodeOptions prompt(size_t tokens, int64_t most) {
    DecodeOptions options;
    options.prompt = TinyModel().tokens(tokens);
    options.max_tokens = most;
    options.ignore_eos = true;
    return options;
  }

  static inline std::string path_;
  static inline std::unique_ptr<OpenModel> model_;
  static inline const std::atomic<bool> never_{false};
};

}  // namespace kvass::testing
