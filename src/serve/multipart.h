// Bodies of multipart/form-data (RFC 7578), as forms with files are sent. The parts are views of the body.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"

namespace kvass::serve {

struct FormPart {
  std::string name, file;  // as the part's Content-Disposition has them; file: empty: none
  std::string_view body;
};

// `type`: the Content-Type of the request, with its boundary.
Result<std::vector<FormPart>> parse_form(std::string_view type, std::string_view body);

}  // namespace kvass::serve
