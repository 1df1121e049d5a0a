// Charsmap of normalizer.h. The trie is a double array of 32-bit units (Yata and others, darts-clone), as SentencePiece
// writes it: the child of a node by byte c lies at (where the node's children begin) XOR c and has c as its label.
#include <cstring>
#include <limits>
#include <string>

#include "text/normalizer.h"
#include "text/utf8.h"

namespace kvass {
namespace {

constexpr uint32_t kNotALabel = uint32_t{1} << 31;  // set in units that hold a value

size_t children(uint32_t unit) { return static_cast<size_t>(unit >> 10) << ((unit & 512u) >> 6); }
bool has_value(uint32_t unit) { return (unit >> 8 & 1u) != 0; }
bool is_child(uint32_t unit, uint8_t byte) { return (unit & (kNotALabel | 0xffu)) == byte; }
size_t value(uint32_t unit) { return unit & ~kNotALabel; }

}  // namespace

Result<Charsmap> Charsmap::parse(std::string_view bytes, std::string_view field) {
  Charsmap map;
  if (bytes.empty()) return map;
  uint32_t trie_bytes = 0;
  if (bytes.size() < sizeof trie_bytes)
    return bad_input(field, "a trie and its size", std::to_string(bytes.size()) + " bytes");
  std::memcpy(&trie_bytes, bytes.data(), sizeof trie_bytes);
  bytes.remove_prefix(sizeof trie_bytes);
  if (trie_bytes % sizeof(uint32_t) != 0 || trie_bytes > bytes.size() || trie_bytes == 0) {
    return bad_input(field, "a trie of units of 4 bytes, at most " + std::to_string(bytes.size()) + " bytes",
                     std::to_string(trie_bytes));
  }
  map.trie_.resize(trie_bytes / sizeof(uint32_t));
  std::memcpy(map.trie_.data(), bytes.data(), trie_bytes);
  map.replacements_ = bytes.substr(trie_bytes);
  if (!map.replacements_.empty() && map.replacements_.back() != '\0') {
    return bad_input(field, "replacements that end with a zero", "one that does not");
  }
  return map;
}

Charsmap::Match Charsmap::longest(std::string_view text) const {
  Match match;
  if (trie_.empty()) return match;
  size_t node = children(trie_[0]);
  for (size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= trie_.size() || !is_child(trie_[node], byte)) break;
    const uint32_t unit = trie_[node];
    node ^= children(unit);
    if (node >= trie_.size()) break;
    if (!has_value(unit)) continue;
    const size_t begin = value(trie_[node]);
    if (begin >= replacements_.size()) break;
    match = {i + 1, std::string_view(replacements_.data() + begin)};  // a zero follows: parse() has checked the last
  }
  return match;
}

std::string Charsmap::apply(std::string_view text) const {
  if (trie_.empty()) return std::string(text);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Match match = longest(text);
    size_t length = match.length;
    if (length > 0) {
      out += match.replacement;
    } else {
      const Utf8Step step = utf8_step(text);
      length = step.state == Utf8Step::valid ? step.length : 1;
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace kvass
