// Byte-level byte-pair merging (as in GPT-2): plain text, without special tokens, to ids.
//   the pre-tokenizer splits the text into pieces; each piece is merged alone
//   symbols = the tokens of a piece's bytes
//   while an adjacent pair of symbols is in the list of merges: merge the pair that is first in the list; of equal
//   pairs the leftmost
//   with ignore_merges (pre_tokenizer.h), a piece that is a token becomes that token without merging
// A byte without a token becomes the unknown token, or nothing if the vocabulary has none. O(n log n) in a piece.
// Immutable; the pieces belong to the Tokenizer and are passed to every call.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "text/merge_buffer.h"
#include "text/pair_table.h"
#include "text/piece_index.h"
#include "text/piece_table.h"
#include "text/pre_tokenizer.h"
#include "text/vocabulary.h"

namespace kvass {

class BpeMerger {
 public:
  // The caller has checked that the sizes in `vocabulary` agree. `pieces` are bytes, not the alphabet of the file.
  // `types`: of the tokens by their meaning (control_tokens.h); nothing is merged into a control token.
  static Result<BpeMerger> create(const VocabularyView& vocabulary, std::span<const TokenType> types,
                                  const PieceTable& pieces);

  // Appends the ids of `text`.
  void encode(const PieceTable& pieces, std::string_view text, std::vector<int32_t>& ids) const;

 private:
  explicit BpeMerger(const PreTokenizerKind& kind) : splitter_(kind), ignore_merges_(kind.ignore_merges) {}
  Status read_merges(const VocabularyView& vocabulary, std::span<const TokenType> types, const PieceTable& pieces);
  void encode_piece(const PieceTable& pieces, std::string_view piece, MergeBuffer& symbols,
                    std::vector<int32_t>& ids) const;

  PreTokenizer splitter_;
  bool ignore_merges_;
  PieceIndex index_;  // the tokens that encoding may produce
  PairTable pairs_;
  std::array<int32_t, 256> byte_ids_{};
  int32_t unknown_ = -1;
};

}  // namespace kvass
