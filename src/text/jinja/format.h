// printf-style formatting of one value, as Python's `%` does it: the part of a format from a `%` to its letter. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace kvass::jinja {

struct Conversion {
  std::string flags;  // of "-+ #0"
  size_t width = 0;   // characters
  std::optional<size_t> precision;
  char letter = 0;
};

// Reads what stands after the `%` and moves `at` past it.
Conversion read_conversion(std::string_view format, size_t& at);
// The value, padded to the width. Fails where the letter does not take it.
Text convert(const Conversion& conversion, const Value& value);

}  // namespace kvass::jinja
