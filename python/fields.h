// Which keyword argument sets which field of the library, for messages: they name fields.
#pragma once

#include <string_view>

namespace kvass::python {

// Empty: no field of the table.
std::string_view keyword_of(std::string_view field);

}  // namespace kvass::python
