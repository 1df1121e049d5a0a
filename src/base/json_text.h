// JSON that a person hands in (messages, tools, ids, a template's variables), as a tree whose nesting has a limit:
// whatever walks through a tree afterwards (printing, copying, comparing) recurses as deep as it is nested. JSON in
// files of models is read through base/json_tree.h.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/json_tree.h"
#include "kvass/status.h"

namespace kvass {

inline constexpr size_t kMostJsonDepth = 200;  // of arrays and objects in one another

// A text as a JSON string, in quotes. Bytes that are no UTF-8 become U+FFFD.
inline std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

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
Result<BasicJsonTree<Json>> parse_json(const std::string& what, std::string_view text,
                                       size_t most_depth = kMostJsonDepth) {
  if (Json::accept(text)) {
    if (const size_t depth = json_depth(text); depth > most_depth) {
      return bad_input(what, "JSON nested at most " + std::to_string(most_depth) + " deep",
                       std::to_string(depth) + " levels");
    }
  }
  return BasicJsonTree<Json>(text.begin(), text.end(), nullptr, static_cast<int>(most_depth));
}

// The same, and of this type.
template <class Json>
Result<BasicJsonTree<Json>> parse_json(const std::string& what, std::string_view text, typename Json::value_t type,
                                       size_t most_depth = kMostJsonDepth) {
  KVASS_ASSIGN_OR_RETURN(BasicJsonTree<Json> json, parse_json<Json>(what, text, most_depth));
  if (json.root().type() == type) return json;
  return bad_input(
      what, type == Json::value_t::array ? "a JSON array" : "a JSON object",
      json.root().is_discarded() ? "text that is no JSON" : std::string("a JSON ") + json.root().type_name());
}

}  // namespace kvass
