// SentencePiece's unigram model (arXiv 1808.06226): plain text, without special tokens, to ids.
//   the text is normalized: the vocabulary's table of replacements; runs of spaces become one, those at the ends none
//   of all ways to write it with NORMAL pieces, the one with the largest sum of scores is taken (Viterbi)
//   a character that is no piece costs the smallest score less 10; neighbours of that kind become their byte tokens, or
//   together the unknown token if a byte has none
// Sums are of floats, as SentencePiece has them, from left to right; of equal sums the first that is found counts. O(n
// · longest piece). Immutable; the pieces belong to the Tokenizer and are passed to every call.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kvass/status.h"
#include "text/normalizer.h"
#include "text/piece_table.h"
#include "text/vocabulary.h"

namespace kvass {

class UnigramMerger {
 public:
  // The caller has checked `vocabulary`: sizes agree, no score is NaN, every byte has a token or there is an unknown
  // token. `types`: of the tokens by their meaning (control_tokens.h).
  static Result<UnigramMerger> create(const VocabularyView& vocabulary, std::span<const TokenType> types,
                                      const PieceTable& pieces);

  // Appends the ids of `text`. `space_prefix`: as if a space stood before the text.
  void encode(const PieceTable& pieces, std::string_view text, bool space_prefix, std::vector<int32_t>& ids) const;

  // Whether spaces at the ends of a text are removed, and runs of them become one.
  bool removes_spaces() const { return tables_->remove_extra_whitespaces; }

 private:
  struct Tables {
    Charsmap charsmap;
    bool remove_extra_whitespaces = false;
    std::vector<int32_t> order;              // the pieces that text can become, by their bytes
    std::array<uint32_t, 257> first_byte{};  // those that begin with byte b: [first_byte[b], first_byte[b + 1])
    std::vector<float> scores;               // [tokens]
    float unknown_score = 0.0f;
    std::array<int32_t, 256> byte_ids{};  // -1: none
    int32_t unknown = -1;
  };
  // The best way to the end of a part of the text: its last token and where that begins.
  struct Step {
    float score = 0.0f;
    size_t begin = 0;
    int32_t id = -1;  // -1: a character that is no piece
    bool reached = false;
  };

  std::string normalized(std::string_view text, bool space_prefix) const;
  std::vector<Step> best_steps(const PieceTable& pieces, std::string_view text) const;
  void emit_unknown(std::string_view text, std::vector<int32_t>& ids) const;

  std::shared_ptr<const Tables> tables_;
};

}  // namespace kvass
