// How filters are listed: a row each of name and function.
#pragma once

#include <cstddef>
#include <string_view>

#include "text/jinja/builtins.h"

namespace kvass::jinja {

struct FilterRow {
  std::string_view name;
  Filter filter;
};

template <size_t N>
Filter find_row(const FilterRow (&rows)[N], std::string_view name) {
  for (const FilterRow& row : rows) {
    if (row.name == name) return row.filter;
  }
  return nullptr;
}

Filter find_list_filter(std::string_view name);

}  // namespace kvass::jinja

// A row whose function is one expression of `interpreter`, the input `v` and the arguments `a`.
#define KVASS_FILTER(name, ...)                                                 \
  {                                                                             \
    name, [](Interpreter& interpreter, const Value& v, Arguments& a) -> Value { \
      (void)interpreter, (void)a;                                               \
      return __VA_ARGS__;                                                       \
    }                                                                           \
  }
