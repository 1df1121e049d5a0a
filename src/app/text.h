// Figures as people read them.
#pragma once

#include <cstddef>
#include <string>

namespace kvass {

std::string human_bytes(size_t bytes);  // "10.5 MiB"

}  // namespace kvass
