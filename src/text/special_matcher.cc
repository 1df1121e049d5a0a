#include "text/special_matcher.h"

#include <algorithm>

namespace kvass {

SpecialMatcher::SpecialMatcher(const PieceTable& pieces, const std::vector<TokenType>& types) {
  for (int32_t id = 0; id < pieces.size(); ++id) {
    const TokenType type = types[id];
    if (pieces[id].empty()) continue;
    if (type == TokenType::user_defined) entries_.push_back({id, false});
    if (type == TokenType::control || type == TokenType::unknown) entries_.push_back({id, true});
  }
  std::sort(entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
    const int order = pieces[a.id].compare(pieces[b.id]);
    return order != 0 ? order < 0 : a.id < b.id;
  });
  for (const Entry& entry : entries_) ++first_byte_[static_cast<uint8_t>(pieces[entry.id][0]) + 1];
  for (size_t i = 1; i < first_byte_.size(); ++i) first_byte_[i] += first_byte_[i - 1];
}

// Narrows the sorted entries, byte by byte, to those that the text spells from `at` on.
int32_t SpecialMatcher::longest_at(const PieceTable& pieces, std::string_view text, size_t at,
                                   size_t control_end) const {
  const auto first = static_cast<uint8_t>(text[at]);
  auto begin = entries_.begin() + first_byte_[first];
  auto end = entries_.begin() + first_byte_[first + 1];
  int32_t best = -1;
  for (size_t length = 1;; ++length) {
    // Pieces that end here sort before the longer ones.
    bool found = false;
    for (; begin != end && pieces[begin->id].size() == length; ++begin) {
      if (found || (begin->control && at + length > control_end)) continue;
      best = begin->id;
      found = true;
    }
    if (begin == end || at + length == text.size()) return best;
    const auto next = static_cast<uint8_t>(text[at + length]);
    const auto byte = [&](const Entry& entry) { return static_cast<uint8_t>(pieces[entry.id][length]); };
    begin = std::partition_point(begin, end, [&](const Entry& entry) { return byte(entry) < next; });
    end = std::partition_point(begin, end, [&](const Entry& entry) { return byte(entry) == next; });
  }
}

SpecialMatcher::Match SpecialMatcher::find(const PieceTable& pieces, std::string_view text, size_t from, size_t until,
                                           size_t control_end) const {
  for (size_t at = from; at < until; ++at) {
    const auto first = static_cast<uint8_t>(text[at]);
    if (first_byte_[first] == first_byte_[first + 1]) continue;
    if (const int32_t id = longest_at(pieces, text, at, control_end); id >= 0) return {at, id};
  }
  return {until, -1};
}

}  // namespace kvass
