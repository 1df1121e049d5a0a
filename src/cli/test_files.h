// What the tests of the command line share: a tiny model as a file, and what they expect of a finished run.
#pragma once

#include <nlohmann/json.hpp>

#include "cli/test_process.h"
#include "tiny_model.h"

namespace kvass::testing {

inline std::string path_of(const char* name) {
  static const Scratch scratch;
  return scratch.file(name);
}

// The tiny model as a file, written once.
inline const std::string& tiny() {
  static const std::string path = [] {
    const std::string file = path_of("tiny.gguf");
    EXPECT_TRUE(TinyModel().writer().write(file).ok());
    return file;
  }();
  return path;
}

// A tiny model that one can talk with, as a file of this name.
inline std::string tiny_talker(const char* name) {
  EXPECT_TRUE(TinyModel().talker().write(path_of(name)).ok());
  return path_of(name);
}

inline nlohmann::json parsed(const Finished& done) {
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out.find('\n'), done.out.size() - 1) << "one line";
  const nlohmann::json value = nlohmann::json::parse(done.out, nullptr, false);
  EXPECT_FALSE(value.is_discarded()) << done.out;
  return value;
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// One line "kvass: …" on stderr and nothing on stdout.
inline void expect_refused(const Finished& done, int code, const std::vector<std::string>& words = {}) {
  EXPECT_EQ(done.code, code) << done.err;
  EXPECT_EQ(done.out, "");
  EXPECT_TRUE(done.err.starts_with("kvass: ")) << done.err;
  EXPECT_EQ(done.err.find('\n'), done.err.size() - 1) << done.err;
  for (const std::string& word : words) EXPECT_TRUE(has(done.err, word)) << done.err << " lacks '" << word << "'";
}

inline Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace kvass::testing
