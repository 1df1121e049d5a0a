// What is done to plain text before it becomes tokens, where a vocabulary was trained on text that was treated so:
// Unicode's form C, and SentencePiece's compiled table of replacements. Bytes that are not UTF-8 stay as they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"

namespace kvass {

// `text` in Unicode's form C: itself, or in `scratch`.
std::string_view to_nfc(std::string_view text, std::string& scratch);

// A table as tokenizer.ggml.precompiled_charsmap has it: the number of bytes of a double-array trie, the trie, and the
// replacements, each with a zero at its end. Every access is checked: a file may say anything.
class Charsmap {
 public:
  Charsmap() = default;  // replaces nothing
  // The error is about `field`.
  static Result<Charsmap> parse(std::string_view bytes, std::string_view field);

  // `text` with the longest match at every place replaced.
  std::string apply(std::string_view text) const;

 private:
  struct Match {
    size_t length = 0;  // bytes; 0: none
    std::string_view replacement;
  };
  Match longest(std::string_view text) const;

  std::vector<uint32_t> trie_;
  std::string replacements_;
};

}  // namespace kvass
