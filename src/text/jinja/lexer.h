// Template source to tokens, with the white space rules that chat templates are written for: trim_blocks (the first
// line end after a block tag goes), lstrip_blocks (white space before a block tag at the start of a line goes), `-` and
// `+` at a tag, and one line end at the end of the source goes. As jinja2's lexer; comments leave no token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvass::jinja {

struct Token {
  enum class Kind : uint8_t {
    data,         // text between tags
    block_begin,  // {%
    block_end,
    variable_begin,  // {{
    variable_end,
    name,
    string,
    integer,
    real,
    op,  // an operator or a bracket: its characters are the text
    end,
  };
  Kind kind = Kind::end;
  std::string text;  // of a string: its value
  int line = 1;
  int column = 1;  // bytes, from 1

  bool is_op(std::string_view op) const { return kind == Kind::op && text == op; }
  bool is_name(std::string_view name) const { return kind == Kind::name && text == name; }
};

// Throws Failure (value.h). The last token is `end`.
std::vector<Token> tokenize(std::string_view source);

}  // namespace kvass::jinja
