// Option structs as keyword arguments, by tables: one row for each keyword. None is the default.
#pragma once

#include <nanobind/nanobind.h>

#include <initializer_list>
#include <span>
#include <string>

#include "kvass/options.h"

namespace kvass::python {

namespace nb = nanobind;

template <class Options>
struct Keyword {
  const char* name;
  const char* type;                                       // as signatures have it
  const char* expected;                                   // in words, where the value is of another type
  bool (*set)(Options& options, nanobind::handle value);  // false: it is
};

// `options` with what is given. TypeError for a name that no table has, and for a value of another type.
template <class Options>
Options from_keywords(const nb::kwargs& given, std::initializer_list<std::span<const Keyword<Options>>> tables,
                      Options options = {}) {
  for (const auto& [name, value] : given) {
    const std::string key = nb::cast<std::string>(name);
    const Keyword<Options>* found = nullptr;
    std::string known;
    for (const auto& table : tables) {
      for (const Keyword<Options>& row : table) {
        if (key == row.name) found = &row;
        known.append(known.empty() ? "" : ", ").append(row.name);
      }
    }
    if (!found) throw nb::type_error((key + ": expected one of " + known).c_str());
    if (value.is_none() || found->set(options, value)) continue;
    const std::string got = nb::cast<std::string>(nb::str(nb::getattr(value.type(), "__name__")));
    throw nb::type_error((key + ": expected " + found->expected + ", got " + got).c_str());
  }
  return options;
}

// "*, context: int | None = None, …": what a signature says of the tables' keywords.
template <class Options>
std::string keyword_types(std::initializer_list<std::span<const Keyword<Options>>> tables) {
  std::string types = "*";
  for (const auto& table : tables) {
    for (const Keyword<Options>& row : table) {
      types.append(", ").append(row.name).append(": ").append(row.type).append(" | None = None");
    }
  }
  return types;
}

// Of Engine.sequence(): the flags of the command line under the same names.
StreamOptions stream_keywords(const nb::kwargs& given);
// Of kvass.caches.plan(): those of them that the caches depend on.
StreamOptions cache_keywords(const nb::kwargs& given);
std::string stream_keyword_types();
std::string cache_keyword_types();

}  // namespace kvass::python
