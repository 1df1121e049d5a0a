#include "text/jinja/text.h"

#include <locale.h>
#include <wctype.h>

#include <algorithm>

namespace kvass::jinja {
namespace {

// Letters beyond ASCII are those of the C library's UTF-8 locale; where it has none they stay as they are.
locale_t unicode() {
  static const locale_t locale = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

bool is_line_end(uint32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool in_set(uint32_t character, std::string_view set) {
  if (set.empty()) return is_space(character);
  for (size_t at = 0; at < set.size();) {
    if (decode_character(set, at) == character) return true;
  }
  return false;
}

}  // namespace

uint32_t decode_character(std::string_view bytes, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t first = byte(at);
  const size_t length = first < 0x80   ? 1
                        : first < 0xC2 ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
  if (length <= 1 || at + length > bytes.size()) return bytes[at++] & 0xFFu;
  uint32_t character = first & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return bytes[at++] & 0xFFu;
    character = character << 6 | (byte(at + i) & 0x3Fu);
  }
  at += length;
  return character;
}

void append_character(std::string& to, uint32_t c) {
  if (c < 0x80) {
    to.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    to.push_back(static_cast<char>(0xC0 | c >> 6));
    to.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    to.push_back(static_cast<char>(0xE0 | c >> 12));
    to.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    to.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    to.push_back(static_cast<char>(0xF0 | c >> 18));
    to.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    to.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    to.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_alphabetic(uint32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return unicode() && ::iswalpha_l(static_cast<wint_t>(c), unicode()) != 0;
}
bool is_digit(uint32_t c) { return c >= '0' && c <= '9'; }

uint32_t to_upper(uint32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z' ? c - 32 : c;
  return unicode() ? static_cast<uint32_t>(::towupper_l(static_cast<wint_t>(c), unicode())) : c;
}
uint32_t to_lower(uint32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  return unicode() ? static_cast<uint32_t>(::towlower_l(static_cast<wint_t>(c), unicode())) : c;
}

size_t Text::characters() const {
  if (ascii()) return bytes_.size();
  size_t count = 0;
  for (size_t at = 0; at < bytes_.size(); ++count) decode_character(bytes_, at);
  return count;
}

bool Text::ascii() const {
  return std::all_of(bytes_.begin(), bytes_.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

Text Text::slice(size_t begin, size_t end) const {
  Text part;
  if (begin >= end) return part;
  part.bytes_ = bytes_.substr(begin, end - begin);
  if (!outside_.empty()) part.outside_ = outside_.substr(begin, end - begin);
  return part;
}

void Text::append(const Text& other) {
  if (!other.outside_.empty() || !outside_.empty()) {
    outside_.resize(bytes_.size(), 0);
    if (other.outside_.empty()) {
      outside_.append(other.bytes_.size(), 0);
    } else {
      outside_ += other.outside_;
    }
  }
  bytes_ += other.bytes_;
}

std::vector<size_t> Text::offsets() const {
  std::vector<size_t> begins;
  size_t at = 0;
  while (at < bytes_.size()) {
    begins.push_back(at);
    decode_character(bytes_, at);
  }
  begins.push_back(bytes_.size());
  return begins;
}

Text Text::strip(std::string_view set, bool left, bool right) const {
  const std::vector<size_t> begins = offsets();
  size_t first = 0, last = begins.size() - 1;
  const auto drop = [&](size_t character) {
    size_t at = begins[character];
    return in_set(decode_character(bytes_, at), set);
  };
  while (left && first < last && drop(first)) ++first;
  while (right && last > first && drop(last - 1)) --last;
  return slice(begins[first], begins[last]);
}

Text Text::replace(const Text& from, const Text& to, int64_t most) const {
  Text result;
  size_t at = 0;
  if (from.empty()) {  // before every character and at the end
    const std::vector<size_t> begins = offsets();
    for (size_t i = 0; i < begins.size(); ++i) {
      if (most < 0 || static_cast<int64_t>(i) < most) result.append(to);
      if (i + 1 < begins.size()) result.append(slice(begins[i], begins[i + 1]));
    }
    return result;
  }
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    const size_t next = bytes_.find(from.bytes_, at);
    if (next == std::string::npos) break;
    result.append(slice(at, next));
    result.append(to);
    at = next + from.size();
  }
  result.append(slice(at));
  return result;
}

std::vector<Text> Text::split(std::string_view separator, int64_t most) const {
  std::vector<Text> pieces;
  size_t at = 0;
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    const size_t next = bytes_.find(separator, at);
    if (next == std::string::npos) break;
    pieces.push_back(slice(at, next));
    at = next + separator.size();
  }
  pieces.push_back(slice(at));
  return pieces;
}

std::vector<Text> Text::split_from_right(std::string_view separator, int64_t most) const {
  std::vector<Text> pieces;
  size_t end = bytes_.size();
  for (int64_t done = 0; (most < 0 || done < most) && end >= separator.size(); ++done) {
    const size_t found = bytes_.rfind(separator, end - separator.size());
    if (found == std::string::npos) break;
    pieces.push_back(slice(found + separator.size(), end));
    end = found;
  }
  pieces.push_back(slice(0, end));
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<Text> Text::split_spaces(int64_t most) const {
  std::vector<Text> pieces;
  size_t at = 0;
  const auto skip = [&](bool spaces) {
    while (at < bytes_.size()) {
      size_t next = at;
      if (is_space(decode_character(bytes_, next)) != spaces) break;
      at = next;
    }
  };
  for (;;) {
    skip(true);
    if (at >= bytes_.size()) return pieces;
    const size_t begin = at;
    if (most >= 0 && static_cast<int64_t>(pieces.size()) == most) {
      pieces.push_back(slice(begin).strip("", false, true));
      return pieces;
    }
    skip(false);
    pieces.push_back(slice(begin, at));
  }
}

std::vector<Text> Text::lines(bool keep_ends) const {
  std::vector<Text> lines;
  size_t begin = 0, at = 0;
  while (at < bytes_.size()) {
    const size_t end = at;
    const uint32_t c = decode_character(bytes_, at);
    if (!is_line_end(c)) continue;
    if (c == '\r' && at < bytes_.size() && bytes_[at] == '\n') ++at;
    lines.push_back(slice(begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < bytes_.size()) lines.push_back(slice(begin));
  return lines;
}

namespace {

bool is_cased(uint32_t c) { return to_upper(c) != c || to_lower(c) != c; }

// What stands within words without being a letter of its own: marks above letters, apostrophes, dots. (Unicode has
// more of them in other scripts.)
bool is_case_ignorable(uint32_t c) {
  return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xA8 || c == 0xAD || c == 0xAF ||
         c == 0xB4 || c == 0xB7 || c == 0xB8 || (c >= 0x2B0 && c <= 0x36F) || c == 0x387 || c == 0x2018 ||
         c == 0x2019 || c == 0x2024 || c == 0x2027 || (c >= 0x200B && c <= 0x200F) || (c >= 0xFE00 && c <= 0xFE0F);
}

// Whether a word goes on at a byte.
bool goes_on(std::string_view bytes, size_t at) {
  while (at < bytes.size()) {
    const uint32_t c = decode_character(bytes, at);
    if (!is_case_ignorable(c)) return is_cased(c);
  }
  return false;
}

}  // namespace

Text Text::with_case(Case kind) const {
  constexpr uint32_t kSharpS = 0xDF, kCapitalSigma = 0x3A3, kSigma = 0x3C3, kFinalSigma = 0x3C2;
  Text result;
  bool word = false;    // the character before belongs to a word
  bool within = false;  // so does the last one that has a case or ends words: a capital sigma then may be a final one
  bool first = true;
  for (size_t at = 0; at < bytes_.size();) {
    const bool from_outside = outside(at);
    const uint32_t c = decode_character(bytes_, at);
    bool upper = kind == Case::upper;
    if (kind == Case::capitalize) upper = first;
    if (kind == Case::title) upper = !word;
    if (kind == Case::swap) upper = to_upper(c) != c || c == kSharpS;
    std::string mapped;
    if (upper && c == kSharpS) {
      mapped = kind == Case::capitalize || kind == Case::title ? "Ss" : "SS";  // the sharp s has two capitals
    } else if (kind == Case::fold && (c == kSharpS || c == kFinalSigma)) {
      if (c == kSharpS) mapped = "ss";
      if (c == kFinalSigma) append_character(mapped, kSigma);
    } else if (!upper && c == kCapitalSigma && kind != Case::fold && within && !goes_on(bytes_, at)) {
      append_character(mapped, kFinalSigma);
    } else {
      append_character(mapped, upper ? to_upper(c) : to_lower(c));
    }
    result.append(Text(std::move(mapped), from_outside));
    word = is_alphabetic(c);
    if (!is_case_ignorable(c)) within = is_cased(c);
    first = false;
  }
  return result;
}

}  // namespace kvass::jinja
