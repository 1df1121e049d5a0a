// Failures of the operating system as a Status. ENOMEM is out_of_memory, every other errno is io.
#pragma once

#include <cstddef>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

// "<what>: expected <expected>, got <the text of `error`, an errno>".
Status os_error(std::string_view what, std::string_view expected, int error);

// "<what>: expected <bytes> bytes of <memory>, got <got>", with the code out_of_memory.
Status out_of_memory(std::string_view what, size_t bytes, std::string_view memory, std::string_view got);

}  // namespace kvass
