// The alphabet of byte-level vocabularies (GPT-2): a printable character for every byte. Bytes that are printable
// characters of Latin-1 stand for themselves; the others, in order, are U+0100 and up. Not the UTF-8 of the text: each
// character of a piece is one byte, and a piece may hold part of a character of the text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/utf8.h"

namespace kvass {

// [256] the character of each byte.
constexpr std::array<uint16_t, 256> byte_alphabet() {
  std::array<uint16_t, 256> codes{};
  uint16_t next = 0x100;
  for (uint16_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    codes[byte] = printable ? byte : next++;
  }
  return codes;
}

// `bytes` spelled in the alphabet, as UTF-8.
inline std::string piece_of_bytes(std::string_view bytes) {
  static constexpr auto kCodes = byte_alphabet();
  std::string piece;
  for (const char byte : bytes) {
    const uint16_t code = kCodes[static_cast<uint8_t>(byte)];
    if (code < 0x80) {
      piece += static_cast<char>(code);
    } else {
      piece += static_cast<char>(0xc0 | code >> 6);
      piece += static_cast<char>(0x80 | (code & 0x3f));
    }
  }
  return piece;
}

// The bytes that `piece` spells; nothing if a character is not in the alphabet.
inline std::optional<std::string> bytes_of_piece(std::string_view piece) {
  static constexpr auto kBytes = [] {
    std::array<int16_t, 0x144> bytes{};  // [code]
    bytes.fill(-1);
    constexpr auto codes = byte_alphabet();
    for (int16_t byte = 0; byte < 256; ++byte) bytes[codes[byte]] = byte;
    return bytes;
  }();
  std::string bytes;
  while (!piece.empty()) {
    const Utf8Step step = utf8_step(piece);
    if (step.state != Utf8Step::valid || step.code >= kBytes.size() || kBytes[step.code] < 0) return std::nullopt;
    bytes += static_cast<char>(kBytes[step.code]);
    piece.remove_prefix(step.length);
  }
  return bytes;
}

}  // namespace kvass
