// Finds the tokens that are taken literally: USER_DEFINED ones always, CONTROL and UNKNOWN ones when asked for. The
// match that begins first wins, and of those the longest. Not concerned with what lies between matches. Immutable once
// made; the pieces belong to the Tokenizer and are passed to every call.
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
  // A bound on what a position of the text can cost, whatever the vocabulary.
  static constexpr size_t kMaxPieceBytes = 256;

  SpecialMatcher() = default;
  SpecialMatcher(const PieceTable& pieces, const std::vector<TokenType>& types);

  struct Match {
    size_t begin;  // in bytes of the text; `until` where there is no match
    int32_t id;    // -1 where there is no match
  };
  // The first match that begins in [from, until); one of a control token ends at `control_end` or before.
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
