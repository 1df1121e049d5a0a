// Text from a file as one line of a message or listing: truncated to a length, never inside a UTF-8 character, and
// without control characters. Not an escape that can be reversed: it is for people. Owns nothing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kvass {

inline std::string one_line(std::string_view text, size_t most, char replacement) {
  size_t end = text.size() < most ? text.size() : most;
  // A byte 10xxxxxx continues a character. Valid UTF-8 has at most three in a row; other bytes may be cut anywhere.
  for (int i = 0; i < 3 && end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80; ++i)
    --end;
  std::string out(text.substr(0, end));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = replacement;
  }
  return end < text.size() ? out + "…" : out;
}

// A name from a file, for a message.
inline std::string quoted_name(std::string_view name) { return "'" + one_line(name, 80, '?') + "'"; }

}  // namespace kvass
