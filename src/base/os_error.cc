#include "base/os_error.h"

#include <cerrno>
#include <string>
#include <system_error>

namespace kvass {

Status os_error(std::string_view what, std::string_view expected, int error) {
  if (what.empty()) return bad_input("path", expected, "an empty name");
  const StatusCode code = error == ENOMEM ? StatusCode::out_of_memory : StatusCode::io;
  return Status::error(code, expected_message(what, expected, std::generic_category().message(error)));
}

Status out_of_memory(std::string_view what, size_t bytes, std::string_view memory, std::string_view got) {
  return Status::error(StatusCode::out_of_memory,
                       expected_message(what, std::to_string(bytes) + " bytes of " + std::string(memory), got));
}

}  // namespace kvass
