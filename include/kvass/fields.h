// The fields that messages name. The library writes `Struct.field`, as in
//     CacheOptions.context: expected at least 1 token, got 0; ...
// and each front-end puts its own word there: the command line its flag, Python its keyword, C a field of its struct.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kvass {

// `message` with every whole `Struct.field` in it replaced by word_of(field); where that is empty, the field stays.
template <class WordOf>
std::string translate_fields(std::string_view message, WordOf&& word_of) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto part = [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_'; };
  const auto end_of_name = [&](size_t at) {
    while (at < message.size() && part(message[at])) ++at;
    return at;
  };
  std::string out;
  size_t at = 0;
  while (at < message.size()) {
    if (!part(message[at])) {
      out += message[at++];
      continue;
    }
    // A word, and what is joined to it by dots, slashes or dashes: a path or a key is no field.
    size_t end = end_of_name(at);
    const bool begins = at == 0 || (message[at - 1] != '.' && message[at - 1] != '/' && message[at - 1] != '-');
    if (begins && end + 1 < message.size() && message[end] == '.' && letter(message[end + 1])) {
      end = end_of_name(end + 1);
      const bool goes_on =
          end + 1 < message.size() && (message[end] == '.' || message[end] == '/') && part(message[end + 1]);
      const std::string_view field = message.substr(at, end - at);
      const std::string_view word = goes_on ? std::string_view() : std::string_view(word_of(field));
      out += word.empty() ? field : word;
    } else {
      out += message.substr(at, end - at);
    }
    at = end;
  }
  return out;
}

}  // namespace kvass
