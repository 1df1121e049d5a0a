#include "text/jinja/lexer.h"

#include <algorithm>
#include <cctype>

#include "text/jinja/value.h"

namespace kvass::jinja {
namespace {

// Line ends are \n, and the last one goes.
std::string normalise(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text.push_back(source[i]);
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }
bool is_digit_char(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return std::isalpha(static_cast<uint8_t>(c)) || c == '_' || static_cast<uint8_t>(c) >= 0x80;
}
bool is_name_char(char c) { return is_name_start(c) || is_digit_char(c); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalise(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) root();
    add(Token::Kind::end, "", source_.size());
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool next_is(std::string_view text) const { return rest().substr(0, text.size()) == text; }

  [[noreturn]] void error(std::string message, size_t at) {
    locate(at);
    throw Failure{std::move(message), line_, column(at)};
  }
  void locate(size_t at) {  // `at` only grows, but for errors
    if (at < located_) {
      located_ = line_begin_ = 0;
      line_ = 1;
    }
    for (; located_ < at; ++located_) {
      if (source_[located_] != '\n') continue;
      ++line_;
      line_begin_ = located_ + 1;
    }
  }
  int column(size_t at) const { return static_cast<int>(at - line_begin_) + 1; }
  void add(Token::Kind kind, std::string text, size_t at) {
    locate(at);
    tokens_.push_back({kind, std::move(text), line_, column(at)});
  }

  // Text up to the next tag, then the tag.
  void root() {
    const size_t begin = at_;
    size_t tag = begin;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        add_data(begin, source_.size());
        at_ = source_.size();
        return;
      }
      const char kind = source_[tag + 1];
      if (kind == '%' || kind == '{' || kind == '#') break;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    const bool signed_tag = sign == '-' || sign == '+';
    add_data(begin, stripped_end(begin, tag, signed_tag ? sign : ' ', kind != '{'));
    at_ = tag + 2 + (signed_tag ? 1 : 0);
    if (kind == '#') return comment(tag);
    if (kind == '%' && raw_tag(tag, "raw")) return raw(tag);
    add(kind == '%' ? Token::Kind::block_begin : Token::Kind::variable_begin, "", tag);
    expression(tag, kind == '%');
  }

  void add_data(size_t begin, size_t end) {
    if (begin < end) add(Token::Kind::data, source_.substr(begin, end - begin), begin);
  }

  // Where the text [begin, tag) ends once white space before the tag is taken off.
  size_t stripped_end(size_t begin, size_t tag, char sign, bool block) const {
    size_t end = tag;
    if (sign == '-') {
      while (end > begin && is_blank(source_[end - 1])) --end;
      return end;
    }
    if (sign == '+' || !block) return end;
    while (end > begin && (source_[end - 1] == ' ' || source_[end - 1] == '\t')) --end;
    const bool line_start = end > begin ? source_[end - 1] == '\n' : begin == 0 || source_[begin - 1] == '\n';
    return line_start ? end : tag;
  }

  void skip_blanks() {
    while (at_ < source_.size() && is_blank(source_[at_])) ++at_;
  }
  void skip_line_end() {
    if (at_ < source_.size() && source_[at_] == '\n') ++at_;
  }
  // After the two characters of the end of a tag, which may have had a sign before.
  void after_tag(char sign, bool block) {
    if (sign == '-') return skip_blanks();
    if (block && sign != '+') skip_line_end();
  }

  void comment(size_t tag) {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) error("a comment has no end: expected '#}'", tag);
    const char sign = end > at_ ? source_[end - 1] : ' ';
    at_ = end + 2;
    after_tag(sign, true);
  }

  // Whether `{% name %}` stands at `tag`; then the position is after it.
  bool raw_tag(size_t tag, std::string_view name) {
    size_t at = tag + 2;
    if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) ++at;
    const auto blanks = [&] {
      while (at < source_.size() && is_blank(source_[at])) ++at;
    };
    blanks();
    if (std::string_view(source_).substr(at, name.size()) != name) return false;
    at += name.size();
    if (at < source_.size() && is_name_char(source_[at])) return false;
    blanks();
    char sign = ' ';
    if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) sign = source_[at++];
    if (std::string_view(source_).substr(at, 2) != "%}") return false;
    at_ = at + 2;
    after_tag(sign, true);
    return true;
  }

  void raw(size_t tag) {
    const size_t begin = at_;
    for (size_t end = source_.find("{%", begin); end != std::string::npos; end = source_.find("{%", end + 2)) {
      const char sign = end + 2 < source_.size() ? source_[end + 2] : ' ';
      if (!raw_tag(end, "endraw")) continue;
      add_data(begin, stripped_end(begin, end, sign, true));
      return;
    }
    error("a raw block has no end: expected '{% endraw %}'", tag);
  }

  // Tokens up to the end of the tag that begins at `tag`.
  void expression(size_t tag, bool block) {
    const std::string_view end = block ? "%}" : "}}";
    size_t depth = 0;  // of brackets: a `}}` inside is two braces
    for (;;) {
      skip_blanks();
      if (at_ >= source_.size()) error("a tag has no end: expected '" + std::string(end) + "'", tag);
      const size_t begin = at_;
      if (depth == 0) {
        const char sign = source_[at_];
        const bool signed_end = (sign == '-' || (sign == '+' && block)) && rest().substr(1, 2) == end;
        if (signed_end || next_is(end)) {
          at_ += signed_end ? 3 : 2;
          add(block ? Token::Kind::block_end : Token::Kind::variable_end, "", begin);
          return after_tag(signed_end ? sign : ' ', block);
        }
      }
      const char c = source_[at_];
      if (c == '\'' || c == '"') {
        add(Token::Kind::string, quoted(), begin);
      } else if (is_digit_char(c)) {
        number();
      } else if (is_name_start(c)) {
        while (at_ < source_.size() && is_name_char(source_[at_])) ++at_;
        add(Token::Kind::name, source_.substr(begin, at_ - begin), begin);
      } else {
        op(depth);
      }
    }
  }

  void op(size_t& depth) {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kOne = "+-/*%~[](){}<>=.:|,;";
    const size_t begin = at_;
    for (std::string_view two : kTwo) {
      if (!next_is(two)) continue;
      at_ += 2;
      return add(Token::Kind::op, std::string(two), begin);
    }
    const char c = source_[at_];
    if (kOne.find(c) == std::string_view::npos) error(std::string("unexpected character '") + c + "'", begin);
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') {
      if (depth == 0) error(std::string("unexpected '") + c + "'", begin);
      --depth;
    }
    ++at_;
    add(Token::Kind::op, std::string(1, c), begin);
  }

  void number() {
    const size_t begin = at_;
    const auto digits = [&](auto&& fits) {
      while (at_ < source_.size() &&
             (fits(source_[at_]) || (source_[at_] == '_' && at_ + 1 < source_.size() && fits(source_[at_ + 1]))))
        ++at_;
    };
    const char marker = at_ + 1 < source_.size() ? static_cast<char>(std::tolower(source_[at_ + 1])) : ' ';
    if (source_[at_] == '0' && (marker == 'x' || marker == 'o' || marker == 'b')) {
      at_ += 2;
      digits([](char c) { return std::isxdigit(static_cast<uint8_t>(c)) != 0; });
      return add_number(begin, false);
    }
    digits(is_digit_char);
    bool real = false;
    if (at_ + 1 < source_.size() && source_[at_] == '.' && is_digit_char(source_[at_ + 1])) {
      real = true;
      ++at_;
      digits(is_digit_char);
    }
    if (at_ < source_.size() && (source_[at_] == 'e' || source_[at_] == 'E')) {
      size_t exponent = at_ + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
      if (exponent < source_.size() && is_digit_char(source_[exponent])) {
        real = true;
        at_ = exponent;
        digits(is_digit_char);
      }
    }
    add_number(begin, real);
  }
  void add_number(size_t begin, bool real) {
    std::string text = source_.substr(begin, at_ - begin);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    add(real ? Token::Kind::real : Token::Kind::integer, std::move(text), begin);
  }

  // A string's value; escapes are Python's.
  std::string quoted() {
    const size_t begin = at_;
    const char quote = source_[at_++];
    std::string text;
    for (;;) {
      if (at_ >= source_.size()) error("a string has no end", begin);
      const char c = source_[at_++];
      if (c == quote) return text;
      if (c != '\\') {
        text.push_back(c);
      } else {
        if (at_ >= source_.size()) error("a string has no end", begin);
        escape(text, begin);
      }
    }
  }
  void escape(std::string& text, size_t begin) {
    static constexpr std::string_view kFrom = "abfnrtv\\'\"", kTo = "\a\b\f\n\r\t\v\\'\"";
    const char c = source_[at_++];
    if (c == '\n') return;
    if (const size_t simple = kFrom.find(c); simple != std::string_view::npos) return text.push_back(kTo[simple]);
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t character = 0;
    if (digits != 0) {
      for (size_t i = 0; i < digits; ++i, ++at_) {
        if (at_ >= source_.size() || !std::isxdigit(static_cast<uint8_t>(source_[at_]))) {
          error(std::string("a \\") + c + " escape needs " + std::to_string(digits) + " hexadecimal digits", begin);
        }
        const char digit = static_cast<char>(std::tolower(source_[at_]));
        character = character * 16 + static_cast<uint32_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
      }
      if (character > 0x10FFFF) error("an escape is beyond the last character of Unicode", begin);
      if (character >= 0xD800 && character <= 0xDFFF) {
        error("expected an escape of a whole character, got half a surrogate pair", begin);
      }
      return append_character(text, character);
    }
    if (c >= '0' && c <= '7') {
      character = static_cast<uint32_t>(c - '0');
      for (int i = 0; i < 2 && at_ < source_.size() && source_[at_] >= '0' && source_[at_] <= '7'; ++i) {
        character = character * 8 + static_cast<uint32_t>(source_[at_++] - '0');
      }
      return append_character(text, character);
    }
    if (c == 'N') error("\\N escapes are not supported", begin);
    text.push_back('\\');  // what is no escape stays as it is
    text.push_back(c);
  }

  const std::string source_;
  size_t at_ = 0;
  size_t located_ = 0, line_begin_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace kvass::jinja
