#include "text/jinja/text.h"

#include <locale.h>
#include <string.h>
#include <wctype.h>

#include <algorithm>

#include "text/jinja/budget.h"

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
  Budget::work(set.size());
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

size_t previous_character(std::string_view bytes, size_t at) {
  for (size_t length = 2; length <= std::min<size_t>(at, 4); ++length) {
    size_t end = at - length;
    decode_character(bytes, end);
    if (end == at) return at - length;
  }
  return at - 1;
}

size_t find_bytes(std::string_view in, std::string_view of, size_t from) {
  if (from > in.size()) return std::string_view::npos;
  Budget::work(of.size());
  // memmem is linear, which std::string_view::find is not.
  const char* begin = in.data() + from;
  const void* found = of.empty() ? begin : ::memmem(begin, in.size() - from, of.data(), of.size());
  const size_t at = found ? static_cast<size_t>(static_cast<const char*>(found) - in.data()) : std::string_view::npos;
  Budget::work((found ? at : in.size()) - from);
  return at;
}

size_t find_last_bytes(std::string_view in, std::string_view of) {
  Budget::bytes(in.size() + of.size());
  const std::string backwards(in.rbegin(), in.rend()), wanted(of.rbegin(), of.rend());
  const size_t at = find_bytes(backwards, wanted);
  return at == std::string_view::npos ? at : in.size() - at - of.size();
}

Text::Text(std::string bytes, bool outside) : bytes_(std::move(bytes)) {
  Budget::bytes(bytes_.size() * (outside ? 2 : 1));
  if (outside) outside_.assign(bytes_.size(), 1);
}

Text::Text(const Text& other) {
  Budget::bytes(other.bytes_.size() + other.outside_.size());
  bytes_ = other.bytes_;
  outside_ = other.outside_;
}

size_t Text::characters() const {
  if (ascii()) return bytes_.size();
  Budget::work(bytes_.size());
  size_t count = 0;
  for (size_t at = 0; at < bytes_.size(); ++count) decode_character(bytes_, at);
  return count;
}

bool Text::ascii() const {
  Budget::work(bytes_.size() / 4);
  return std::all_of(bytes_.begin(), bytes_.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

Text Text::slice(size_t begin, size_t end) const {
  Text part;
  if (begin < end) part.append(*this, begin, end);
  return part;
}

size_t Text::byte_of(size_t character) const {
  if (ascii()) return std::min(character, bytes_.size());
  size_t at = 0;
  for (size_t i = 0; i < character && at < bytes_.size(); ++i) decode_character(bytes_, at);
  Budget::work(at);
  return at;
}

// Room for more bytes, marked with where they come from or not. All that is taken counts, not only what is used.
void Text::grow(size_t more, bool marked) {
  const auto reserve = [&](std::string& to, size_t size) {
    if (size <= to.capacity()) return;
    const size_t room = to.empty() ? size : std::max(size, 2 * to.capacity());
    Budget::bytes(room);
    to.reserve(room);
  };
  Budget::work(4);
  reserve(bytes_, bytes_.size() + more);
  if (!marked) return;
  reserve(outside_, bytes_.size() + more);
  outside_.resize(bytes_.size(), 0);
}

void Text::append(const Text& other, size_t begin, size_t end) {
  const bool marked = !outside_.empty() || !other.outside_.empty();
  grow(end - begin, marked);
  bytes_.append(other.bytes_, begin, end - begin);
  if (!marked) return;
  if (other.outside_.empty()) {
    outside_.append(end - begin, 0);
  } else {
    outside_.append(other.outside_, begin, end - begin);
  }
}

void Text::append(std::string_view bytes, bool outside) {
  const bool marked = outside || !outside_.empty();
  grow(bytes.size(), marked);
  bytes_.append(bytes);
  if (marked) outside_.append(bytes.size(), outside ? 1 : 0);
}

void Text::append_times(const Text& other, size_t times) {
  if (times == 0 || other.empty()) return;
  Budget::check(times, other.size());
  const size_t begin = size();
  grow(times * other.size(), !outside_.empty() || !other.outside_.empty());
  append(other);
  for (size_t done = 1; done < times;) {  // what is there already, once more
    const size_t more = std::min(done, times - done);
    bytes_.append(bytes_, begin, more * other.size());
    if (!outside_.empty()) outside_.append(outside_, begin, more * other.size());
    done += more;
  }
}

std::vector<size_t> Text::offsets() const {
  const size_t count = characters() + 1;
  Budget::bytes(count, sizeof(size_t));
  Budget::work(bytes_.size());
  std::vector<size_t> begins;
  begins.reserve(count);
  for (size_t at = 0; at < bytes_.size(); decode_character(bytes_, at)) begins.push_back(at);
  begins.push_back(bytes_.size());
  return begins;
}

Text Text::strip(std::string_view set, bool left, bool right) const {
  size_t begin = 0, end = bytes_.size();
  while (left && begin < end) {
    size_t next = begin;
    Budget::work(1);
    if (!in_set(decode_character(bytes_, next), set)) break;
    begin = next;
  }
  while (right && end > begin) {
    const size_t last = previous_character(bytes_, end);
    size_t at = last;
    Budget::work(1);
    if (!in_set(decode_character(bytes_, at), set)) break;
    end = last;
  }
  return slice(begin, end);
}

Text Text::replace(const Text& from, const Text& to, int64_t most) const {
  Text result;
  size_t at = 0;
  if (from.empty()) {  // before every character and at the end
    for (int64_t done = 0;; ++done) {
      if (most < 0 || done < most) result.append(to);
      if (at == bytes_.size()) return result;
      const size_t begin = at;
      decode_character(bytes_, at);
      result.append(*this, begin, at);
    }
  }
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    const size_t next = find_bytes(bytes_, from.bytes_, at);
    if (next == std::string::npos) break;
    result.append(*this, at, next);
    result.append(to);
    at = next + from.size();
  }
  result.append(*this, at, bytes_.size());
  return result;
}

namespace {

// Adds a piece, whose place in the list counts as well.
void add(std::vector<Text>& pieces, Text piece) {
  Budget::bytes(2 * sizeof(Text));
  pieces.push_back(std::move(piece));
}

}  // namespace

std::vector<Text> Text::split(std::string_view separator, int64_t most) const {
  std::vector<Text> pieces;
  size_t at = 0;
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    const size_t next = find_bytes(bytes_, separator, at);
    if (next == std::string::npos) break;
    add(pieces, slice(at, next));
    at = next + separator.size();
  }
  add(pieces, slice(at));
  return pieces;
}

std::vector<Text> Text::split_from_right(std::string_view separator, int64_t most) const {
  // Backwards, the last separator is the first.
  Budget::bytes(bytes_.size() + separator.size());
  const std::string backwards(bytes_.rbegin(), bytes_.rend()), wanted(separator.rbegin(), separator.rend());
  std::vector<Text> pieces;
  size_t at = 0;
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    const size_t next = find_bytes(backwards, wanted, at);
    if (next == std::string::npos) break;
    add(pieces, slice(size() - next, size() - at));
    at = next + separator.size();
  }
  add(pieces, slice(0, size() - at));
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<Text> Text::split_spaces(int64_t most) const {
  Budget::work(bytes_.size());
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
      add(pieces, slice(begin).strip("", false, true));
      return pieces;
    }
    skip(false);
    add(pieces, slice(begin, at));
  }
}

std::vector<Text> Text::lines(bool keep_ends) const {
  Budget::work(bytes_.size());
  std::vector<Text> lines;
  size_t begin = 0, at = 0;
  while (at < bytes_.size()) {
    const size_t end = at;
    const uint32_t c = decode_character(bytes_, at);
    if (!is_line_end(c)) continue;
    if (c == '\r' && at < bytes_.size() && bytes_[at] == '\n') ++at;
    add(lines, slice(begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < bytes_.size()) add(lines, slice(begin));
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
    Budget::work(4);
    const uint32_t c = decode_character(bytes, at);
    if (!is_case_ignorable(c)) return is_cased(c);
  }
  return false;
}

}  // namespace

Text Text::with_case(Case kind) const {
  constexpr uint32_t kSharpS = 0xDF, kCapitalSigma = 0x3A3, kSigma = 0x3C3, kFinalSigma = 0x3C2;
  Budget::work(8 * bytes_.size());
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
    result.append(mapped, from_outside);
    word = is_alphabetic(c);
    if (!is_case_ignorable(c)) within = is_cased(c);
    first = false;
  }
  return result;
}

}  // namespace kvass::jinja
