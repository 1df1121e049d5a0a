// Finds the tokens that are matched literally: USER_DEFINED tokens always, CONTROL and UNKNOWN tokens on request. The
// match that begins first wins; of several, the longest. The text between matches is left to the caller. Immutable; the
// pieces belong to the Tokenizer and are passed to every call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/piece_table.h"
#include "text/vocabulary.h"

namespace kvass {

class SpecialMatcher {
 public:
  // Longer pieces are not matched: this bounds the work at each position of the text for any vocabulary.
  static constexpr size_t kMaxPieceBytes = 256;

  SpecialMatcher() = default;
  SpecialMatcher(const PieceTable& pieces, const std::vector<TokenType>& types);

  struct Match {
    size_t begin;  // byte offset in the text; `until` if there is no match
    int32_t id;    // -1 if there is no match
  };
  // The first match that begins in [from, until). A match of a control token must end at or before `control_end`.
  Match find(const PieceTable& pieces, std::string_view text, size_t from, size_t until, size_t control_end) const;

 private:
  struct Entry {
    int32_t id;
    bool control;
  };
  int32_t longest_at(const PieceTable& pieces, std::string_view text, size_t at, size_t control_end) const;

  std::vector<Entry> entries_;  // sorted by piece, then id
  std::array<uint32_t, 257>
      first_byte_{};  // entries whose piece begins with byte b: [first_byte_[b], first_byte_[b + 1])
};

}  // namespace kvass
