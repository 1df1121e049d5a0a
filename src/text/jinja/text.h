// A Python `str` with its origin: UTF-8 bytes, and for each byte whether it came into the template from outside (a
// message, a tool, a variable) or was written in the template. A chat sends control tokens for the template's own bytes
// only, so the origin has to survive every operation on strings.
//
// Positions and lengths count characters (code points), as in Python. Owns its bytes. What copies, looks through or
// makes text counts against the rendering's limits (budget.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvass::jinja {

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool outside = false);
  Text(const Text& other);
  Text(Text&&) noexcept = default;
  Text& operator=(const Text& other) { return *this = Text(other); }
  Text& operator=(Text&&) noexcept = default;

  std::string_view bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }  // bytes
  bool empty() const { return bytes_.empty(); }
  bool outside(size_t byte) const { return !outside_.empty() && outside_[byte] != 0; }

  size_t characters() const;
  bool ascii() const;
  // Bytes [begin, end).
  Text slice(size_t begin, size_t end) const;
  Text slice(size_t begin) const { return slice(begin, size()); }
  // The byte at which a character begins, or the end where there are not so many.
  size_t byte_of(size_t character) const;
  void append(const Text& other) { append(other, 0, other.size()); }
  void append(const Text& other, size_t begin, size_t end);  // bytes [begin, end) of it
  void append(std::string_view bytes, bool outside = false);
  void append_times(const Text& other, size_t times);
  // The byte at which each character begins, and the end: [characters + 1].
  std::vector<size_t> offsets() const;

  // Without the leading or trailing characters that are in `set`; an empty set is Python's white space.
  Text strip(std::string_view set, bool left, bool right) const;
  Text replace(const Text& from, const Text& to, int64_t most) const;  // most < 0: all
  // Pieces between separators; `most` < 0: all. Without a separator: runs of white space, no empty pieces.
  std::vector<Text> split(std::string_view separator, int64_t most) const;
  std::vector<Text> split_from_right(std::string_view separator, int64_t most) const;
  std::vector<Text> split_spaces(int64_t most) const;
  std::vector<Text> lines(bool keep_ends) const;
  // Every character mapped by its place: upper, lower, capitalised, title or swapped case; folded, to be compared.
  enum class Case { upper, lower, capitalize, title, swap, fold };
  Text with_case(Case kind) const;

 private:
  void grow(size_t more, bool marked);

  std::string bytes_;
  std::string outside_;  // [bytes], or empty: all of the template
};

// Where a text stands in another, from a byte on, or npos; from the right the last place of all. In linear time.
size_t find_bytes(std::string_view in, std::string_view of, size_t from = 0);
size_t find_last_bytes(std::string_view in, std::string_view of);

// Code points.
uint32_t decode_character(std::string_view bytes,
                          size_t& at);                         // moves `at` past it; a byte that is not UTF-8 is itself
size_t previous_character(std::string_view bytes, size_t at);  // where the one that ends at `at` begins
void append_character(std::string& to, uint32_t character);
bool is_space(uint32_t character);
bool is_alphabetic(uint32_t character);
bool is_digit(uint32_t character);
uint32_t to_upper(uint32_t character);
uint32_t to_lower(uint32_t character);

}  // namespace kvass::jinja
