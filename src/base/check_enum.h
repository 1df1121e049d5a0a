// Enums of option structs. C++ lets a caller make a value that its enum does not have; it is refused by name like every
// other wrong option.
#pragma once

#include <string>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

// `name_of` gives each value from 0 on its name, and "?" for what is no value.
template <class Enum>
Status check_enum(std::string_view field, Enum value, std::string_view (*name_of)(Enum)) {
  constexpr std::string_view kNone = "?";
  if (name_of(value) != kNone) return {};
  std::string names;
  for (int i = 0; name_of(static_cast<Enum>(i)) != kNone; ++i) {
    names += (names.empty() ? "" : ", ") + std::string(name_of(static_cast<Enum>(i)));
  }
  return bad_input(field, "one of " + names, "the value " + std::to_string(static_cast<int>(value)));
}

}  // namespace kvass
