// The options of one group of a command's help.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace kvass {

struct GroupOptions {
  CLI::App& command;
  std::string group;

  // The help shows the value that is there as the default.
  template <class Value>
  CLI::Option* operator()(const std::string& names, Value& value, const std::string& text, const char* type) const {
    return without_default(names, value, text, type)->capture_default_str();
  }
  template <class Value>
  CLI::Option* without_default(const std::string& names, Value& value, const std::string& text,
                               const char* type) const {
    return command.add_option(names, value, text)->type_name(type)->group(group);
  }
};

}  // namespace kvass
