// SentencePiece's byte-pair merging: plain text, without special tokens, to ids.
//   symbols = the characters of the text (an invalid byte is one of its own); a space and U+2581 are the same symbol
//   while some adjacent pair spells a NORMAL piece: merge the pair whose piece scores highest, the leftmost of equals
//   a symbol that is no piece becomes its byte tokens, or the unknown token where a byte has none
// O(n log n) in the text. No merge reaches across two neighbouring characters that are neighbours in no piece, so the
// text is cut there and each segment merged alone. That changes no id and keeps the heaps small: most vocabularies cut
// at every word. Its tables are made at the first encode, so that a model is ready before; any number of threads may
// use one. The pieces belong to the Tokenizer and are passed to every call.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "text/piece_table.h"
#include "text/vocabulary.h"

namespace kvass {

class SpmMerger {
 public:
  SpmMerger() = default;
  // `vocabulary` has been checked: sizes agree, no score is NaN, every byte has a token or there is an unknown token.
  SpmMerger(const VocabularyView& vocabulary, const PieceTable& pieces);

  // Appends the ids of `text`, with a space before it if asked.
  void encode(const PieceTable& pieces, std::string_view text, bool space_prefix, std::vector<int32_t>& ids) const;

 private:
  struct Tables;
  struct Lazy;  // what the tables are made of, and then they

  const Tables& tables(const PieceTable& pieces) const;

  std::shared_ptr<Lazy> lazy_;
  std::array<int32_t, 256> byte_ids_{};  // -1: none
  int32_t unknown_ = -1;
};

}  // namespace kvass
