// Figures and texts as people read them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kvass {

std::string human_bytes(size_t bytes);  // "10.5 MiB"

bool is_utf8(std::string_view text);
// The text with U+FFFD in place of each byte that is no part of a character.
std::string valid_utf8(std::string_view text);

}  // namespace kvass
