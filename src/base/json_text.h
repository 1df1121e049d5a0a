// JSON that a person hands in (messages, tools, ids, a template's variables), as a tree whose nesting has a limit:
// whatever walks through a tree afterwards (printing, copying, comparing) recurses as deep as it is nested. JSON in
// files of models is read through file/json_tree.h.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

inline constexpr size_t kMostJsonDepth = 200;  // of arrays and objects in one another

// How deep arrays and objects of a valid text are nested.
inline size_t json_depth(std::string_view text) {
  size_t depth = 0, most = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      most = std::max(most, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return most;
}

// The value of a text, or a discarded one (Json::is_discarded) where it is no JSON. Refuses what is nested deeper.
template <class Json>
Result<Json> parse_json(const std::string& what, std::string_view text, size_t most_depth = kMostJsonDepth) {
  if (!Json::accept(text)) return Json(Json::value_t::discarded);
  if (const size_t depth = json_depth(text); depth > most_depth) {
    return bad_input(what, "JSON nested at most " + std::to_string(most_depth) + " deep",
                     std::to_string(depth) + " levels");
  }
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

// The same, and of this type.
template <class Json>
Result<Json> parse_json(const std::string& what, std::string_view text, typename Json::value_t type,
                        size_t most_depth = kMostJsonDepth) {
  KVASS_ASSIGN_OR_RETURN(Json json, parse_json<Json>(what, text, most_depth));
  if (json.type() == type) return json;
  return bad_input(what, type == Json::value_t::array ? "a JSON array" : "a JSON object",
                   json.is_discarded() ? "text that is no JSON" : std::string("a JSON ") + json.type_name());
}

}  // namespace kvass
