// The real model in tests: KVASS_MODEL names the GGUF file with which the goldens were made. Without it, or without the
// goldens, tests are skipped with a message.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "app/open.h"
#include "app/score.h"
#include "effort.h"
#include "goldens.h"

namespace kvass::testing {

using StepRun = ::kvass::Run;  // in a test body `Run` is gtest's

// Empty if the test can run; otherwise the reason why it cannot.
inline std::string why_no_model() {
  const char* path = std::getenv("KVASS_MODEL");
  if (path == nullptr || *path == 0) return "set KVASS_MODEL to gemma-3-270m-q4_k_m.gguf to run this test";
  if (!std::ifstream(path).good()) return "KVASS_MODEL=" + std::string(path) + " is not there";
  if (!golden_path("gemma3_270m.json")) return "no goldens in " KVASS_GOLDENS_DIR;
  return "";
}

#define KVASS_NEEDS_MODEL() \
  if (const std::string why = ::kvass::testing::why_no_model(); !why.empty()) GTEST_SKIP() << why

// Skips tests of means over thousands of tokens. VerifyGemma and the tests of tiny models run the same code on a few.
#define KVASS_NOT_SANITIZED() \
  if (::kvass::testing::kSanitized) GTEST_SKIP() << "it takes too long under a sanitizer"

// The model with one arithmetic. The last one is kept, so that it is loaded once.
inline const OpenModel& golden_model(Math math) {
  static std::unique_ptr<OpenModel> model;
  if (model == nullptr || model->engine->math() != math) {
    model.reset();
    Result<OpenModel> opened = open_model(std::getenv("KVASS_MODEL"), math, resolve_threads(0).value());
    if (!opened.ok()) {
      std::fprintf(stderr, "%s\n", opened.status().message().c_str());
      std::abort();
    }
    model = std::make_unique<OpenModel>(std::move(opened).value());
  }
  return *model;
}

inline OpenStream golden_stream(const OpenModel& model, const StreamOptions& options,
                                int64_t head_rows = kScoreHeadRows) {
  Result<OpenStream> stream = open_stream(model, options, head_rows);
  if (!stream.ok()) {
    ADD_FAILURE() << stream.status().message();
    return {};
  }
  return std::move(stream).value();
}

// −ln p of every token after the first.
inline std::vector<double> score_ids(const OpenModel& model, const StreamOptions& options,
                                     std::span<const int32_t> ids) {
  OpenStream stream = golden_stream(model, options);
  if (!stream.session) return {};
  const std::atomic<bool> cancel{false};
  Result<ScoreResult> result = score(stream, ids, 0, {}, cancel);
  if (!result.ok()) {
    ADD_FAILURE() << result.status().message();
    return {};
  }
  return std::move(result).value().nll;
}

inline double mean(std::span<const double> values) {
  double sum = 0.0;
  for (double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// The float32 arrays of a safetensors file: 8 bytes of header length, a JSON header, the data.
class GoldenArrays {
 public:
  explicit GoldenArrays(const std::string& name) : file_(golden_path(name).value_or(""), std::ios::binary) {
    uint64_t length = 0;
    file_.read(reinterpret_cast<char*>(&length), sizeof length);
    std::string header(length, ' ');
    file_.read(header.data(), static_cast<std::streamsize>(length));
    header_ = nlohmann::json::parse(header);
    data_ = sizeof length + length;
  }
  std::vector<float> floats(const std::string& name) {
    const auto offsets = header_.at(name).at("data_offsets").get<std::vector<uint64_t>>();
    EXPECT_EQ(header_.at(name).at("dtype"), "F32");
    std::vector<float> values((offsets[1] - offsets[0]) / sizeof(float));
    file_.seekg(static_cast<std::streamoff>(data_ + offsets[0]));
    file_.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
    EXPECT_TRUE(file_.good()) << name;
    return values;
  }

 private:
  std::ifstream file_;
  nlohmann::json header_;
  uint64_t data_ = 0;
};

// The text of the King James Bible that the goldens use: Debian's `bible` (package bible-kjv), with formatting, from
// the first verse to the last. Empty if the program is missing.
inline const std::string& kjv_text() {
  static const std::string text = [] {
    std::string out;
    std::FILE* pipe = ::popen("env -u COLUMNS bible -f Gen1:1-Rev22:21 </dev/null 2>/dev/null", "r");
    if (pipe == nullptr) return out;
    std::array<char, 1 << 16> buffer;
    while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), count);
    return ::pclose(pipe) == 0 ? out : std::string();
  }();
  return text;
}

// The goldens have the first and last ids and their number, so a wrong text or tokenizer fails at once.
inline std::vector<int32_t> kjv_ids(const Tokenizer& tokenizer, size_t bytes) {
  std::vector<int32_t> ids = {tokenizer.bos()};
  const std::vector<int32_t> rest = tokenizer.encode(std::string_view(kjv_text()).substr(0, bytes));
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

// Resident memory of this process, now.
inline size_t resident_bytes() {
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

#define KVASS_NEEDS_KJV()                                              \
  if (::kvass::testing::kjv_text().empty())                            \
  GTEST_SKIP() << "the program `bible` (Debian package bible-kjv) is " \
                  "missing"

}  // namespace kvass::testing
