// SentencePiece's byte-pair merging: plain text, without special tokens, to ids.
//   symbols = the characters of the text (an invalid byte is a symbol); a space and U+2581 are the same symbol
//   while some adjacent pair spells a NORMAL piece: merge the pair whose piece scores highest, the leftmost of equals
//   or, where the vocabulary lists merges: while some adjacent pair of tokens is in the list, merge the first in the
//   list
//   a symbol without a piece becomes its byte tokens, or the unknown token if a byte has none
// O(n log n) in the text. If two neighbouring characters are neighbours in no piece, no merge can span them. The text
// is split there and each segment is merged alone. This changes no id and keeps the heaps small: with most vocabularies
// every word is a segment. The tables are made at the first encode, so that a model loads faster. Thread-safe. The
// pieces belong to the Tokenizer and are passed to every call.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "text/pair_table.h"
#include "text/piece_table.h"
#include "text/vocabulary.h"

namespace kvass {

class SpmMerger {
 public:
  SpmMerger() = default;
  // An error in the list of merges. The caller has checked the rest of `vocabulary`: sizes agree, no score is NaN,
  // every byte has a token or there is an unknown token. `types`: of the tokens by their meaning (control_tokens.h).
  static Result<SpmMerger> create(const VocabularyView& vocabulary, std::span<const TokenType> types,
                                  const PieceTable& pieces);

  // Appends the ids of `text`. `space_prefix`: as if a space stood before the text.
  void encode(const PieceTable& pieces, std::string_view text, bool space_prefix, std::vector<int32_t>& ids) const;

 private:
  struct Tables;
  struct Lazy;  // the inputs of the tables, and the tables once they are made

  SpmMerger(const VocabularyView& vocabulary, std::span<const TokenType> types, const PieceTable& pieces);
  Status read_merges(const VocabularyView& vocabulary, std::span<const TokenType> types);
  const Tables& tables(const PieceTable& pieces) const;

  std::shared_ptr<Lazy> lazy_;
  std::shared_ptr<const PairTable> pairs_;  // the merges; null: none are listed
  std::array<int32_t, 256> byte_ids_{};     // -1: none
  int32_t unknown_ = -1;
};

}  // namespace kvass
