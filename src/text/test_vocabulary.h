// Shared by the tests of this folder: hand-made vocabularies, UTF-8 from code points, the seed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/tokenizer.h"

namespace kvass {

// Ids 0 to 255 are the byte tokens (if any), then <bos>, then the added tokens. No space prefix unless the test sets
// it.
struct VocabularyBuilder {
  enum class Bytes { all, none };
  explicit VocabularyBuilder(Bytes bytes = Bytes::all) {
    constexpr char kHex[] = "0123456789ABCDEF";
    for (int i = 0; bytes == Bytes::all && i < 256; ++i) {
      add(std::string("<0x") + kHex[i / 16] + kHex[i % 16] + '>', 0, TokenType::byte);
    }
    vocabulary.bos = add("<bos>", 0, TokenType::control);
    vocabulary.add_space_prefix = false;
  }

  int32_t add(std::string piece, float score, TokenType type = TokenType::normal) {
    vocabulary.pieces.push_back(std::move(piece));
    vocabulary.scores.push_back(score);
    vocabulary.types.push_back(type);
    return static_cast<int32_t>(vocabulary.pieces.size() - 1);
  }
  int32_t byte(uint8_t value) const { return value; }
  Tokenizer build() const { return Tokenizer::create(vocabulary).value(); }

  Vocabulary vocabulary;
};

inline std::string utf8(uint32_t code);

// A byte-level vocabulary: ids 0 to 255 are the bytes, then the added tokens, in the byte alphabet.
struct ByteVocabularyBuilder {
  ByteVocabularyBuilder() {
    vocabulary.kind = VocabularyKind::bpe;
    vocabulary.add_space_prefix = false;
    vocabulary.add_bos = false;
    vocabulary.pre = "gpt-2";
    for (const uint16_t code : byte_alphabet()) add(utf8(code));
  }
  int32_t add(std::string piece, TokenType type = TokenType::normal) {
    vocabulary.pieces.push_back(std::move(piece));
    vocabulary.types.push_back(type);
    return static_cast<int32_t>(vocabulary.pieces.size() - 1);
  }
  Tokenizer build() const { return Tokenizer::create(vocabulary).value(); }

  Vocabulary vocabulary;
};

inline std::string utf8(uint32_t code) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xc0 | code >> 6), tail(0)};
  if (code < 0x10000) return {static_cast<char>(0xe0 | code >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | code >> 18), tail(12), tail(6), tail(0)};
}

// The seed of property tests. KVASS_SEED sets it, to repeat a failure or to try another.
inline uint32_t test_seed() {
  const char* text = std::getenv("KVASS_SEED");
  return text != nullptr ? static_cast<uint32_t>(std::strtoul(text, nullptr, 10)) : 20240711u;
}

}  // namespace kvass
