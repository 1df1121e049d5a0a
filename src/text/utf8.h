// Decodes one character of UTF-8, strictly by RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
// Not a converter: callers decide what an invalid byte means. Holds no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kvass {

struct Utf8Step {
  enum State : uint8_t {
    valid,       // `length` bytes are the character `code`
    invalid,     // the first byte begins no character; length 1, code is the byte
    incomplete,  // the text ends within a character: `length` bytes are its beginning, code is the first byte
  };
  State state;
  uint8_t length;
  uint32_t code;
};

// The first step of `text`, which must not be empty.
inline Utf8Step utf8_step(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8Step::valid, 1, lead};
  if (lead < 0xc2 || lead > 0xf4) return {Utf8Step::invalid, 1, lead};
  const uint8_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // Only the second byte has special bounds. They exclude overlong forms, surrogates and values that are too large.
  const uint8_t lowest = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t highest = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  uint32_t code = lead & (0x7fu >> length);
  for (uint8_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Step::incomplete, i, lead};
    if (byte(i) < (i == 1 ? lowest : 0x80) || byte(i) > (i == 1 ? highest : 0xbf)) return {Utf8Step::invalid, 1, lead};
    code = code << 6 | (byte(i) & 0x3fu);
  }
  return {Utf8Step::valid, length, code};
}

}  // namespace kvass
