// Deliberately damaged files, and the messages with which they are refused.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace kvass::testing {

// The file with every `from` replaced by `to`, which has the same length: it renames a key or a tensor.
inline std::vector<uint8_t> renamed(std::vector<uint8_t> bytes, const std::string& from, const std::string& to) {
  EXPECT_EQ(from.size(), to.size());
  int found = 0;
  for (auto at = bytes.begin();; ++found) {
    at = std::search(at, bytes.end(), from.begin(), from.end());
    if (at == bytes.end()) break;
    at = std::copy(to.begin(), to.end(), at);
  }
  EXPECT_GT(found, 0) << from;
  return bytes;
}

// The file without `name` (a key or a tensor): it gets another name, and a key another prefix.
inline std::vector<uint8_t> without(std::vector<uint8_t> bytes, const std::string& name) {
  std::string other = name;
  other.front() = '~';
  return renamed(std::move(bytes), name, other);
}

inline void expect_words(const std::string& message, std::initializer_list<const char*> words) {
  EXPECT_NE(message, "");
  for (const char* word : words)
    EXPECT_NE(message.find(word), std::string::npos) << "'" << message << "', '" << word << "'";
}

}  // namespace kvass::testing
