// Figures and texts as people read them, and lines as they write them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

std::string human_bytes(size_t bytes);  // "10.5 MiB"

std::string base_name(std::string path);  // the last part, without a slash at its end

bool is_utf8(std::string_view text);
Status check_utf8(std::string_view text, std::string_view what);  // `what` stands in the message
// The text with U+FFFD in place of each byte that is no part of a character, and of half a character at its end.
std::string valid_utf8(std::string_view text);
// Takes the first line off `text`, which is not empty, and gives it without its end: LF, CR LF or the end of the text.
std::string_view take_line(std::string_view& text);

}  // namespace kvass
