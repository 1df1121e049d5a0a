// Messages of the public calls name the field that the caller filled in. What is below them names the fields of its own
// structs; here is which public field stands behind each.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

using OptionStructs = std::initializer_list<std::string_view>;  // that a call takes, as "StreamOptions"

std::string with_public_fields(std::string_view message, OptionStructs structs);
Status with_public_fields(const Status& status, OptionStructs structs);

}  // namespace kvass
