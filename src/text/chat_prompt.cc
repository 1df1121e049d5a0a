#include "text/chat_prompt.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json_text.h"

namespace kvass {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kClockForm[] = "%Y-%m-%dT%H:%M:%S";
// Marks where the last message ends in the rendered text.
constexpr std::string_view kEnd = "CONTINUE_FINAL_MESSAGE_TAG ";

// Appends kEnd to the text of the last message. False: it has none.
bool mark_end(Json& messages) {
  if (messages.empty() || !messages.back().is_object() || !messages.back().contains("content")) return false;
  Json& content = messages.back()["content"];
  const auto append = [](Json& text) { text = text.get<std::string>().append(kEnd); };
  if (content.is_string()) {
    append(content);
    return true;
  }
  if (!content.is_array()) return false;
  for (auto part = content.rbegin(); part != content.rend(); ++part) {
    if (!part->is_object() || !part->contains("text") || !(*part)["text"].is_string()) continue;
    append((*part)["text"]);
    return true;
  }
  return false;
}

// What stands before the mark; without the white space there where the template took away that of the mark.
Result<jinja::Rendered> cut_at_mark(const jinja::Rendered& rendered) {
  const std::string text = rendered.text();
  size_t end = text.rfind(kEnd.substr(0, kEnd.size() - 1));
  if (end == std::string::npos) {
    return bad_input("last message", "one that the chat template shows, to be continued",
                     "one that it leaves out or changes");
  }
  if (text.compare(end, kEnd.size(), kEnd) != 0) end = text.find_last_not_of(" \t\n\r\v\f", end == 0 ? 0 : end - 1) + 1;
  return rendered_part(rendered, 0, end);
}

}  // namespace

Result<jinja::Rendered> chat_prompt(const jinja::Template& style, std::string_view messages, std::string_view tools,
                                    std::string_view special, const ChatPromptOptions& options) {
  if (options.continue_final_message && options.generation_prompt) {
    return bad_input("chat prompt", "a generation prompt or a last message that is continued", "both");
  }
  using Tree = BasicJsonTree<Json>;
  KVASS_ASSIGN_OR_RETURN(Tree messages_tree, parse_json<Json>("messages", messages, Json::value_t::array));
  Json& all = messages_tree.root();
  if (options.continue_final_message && !mark_end(all)) {
    return bad_input("last message", "one with text, to be continued", all.empty() ? "no message" : all.back().dump());
  }
  KVASS_ASSIGN_OR_RETURN(Tree tree, parse_json<Json>("special tokens", special, Json::value_t::object));
  Json& variables = tree.root();
  std::vector<std::string> names;
  for (const auto& [name, value] : variables.items()) names.push_back(name);
  variables["messages"] = std::move(all);
  variables["tools"] = nullptr;
  if (!tools.empty()) {
    KVASS_ASSIGN_OR_RETURN(Tree tools_tree, parse_json<Json>("ChatOptions.tools", tools, Json::value_t::array));
    variables["tools"] = std::move(tools_tree.root());
  }
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = options.generation_prompt;
  if (!options.variables.empty()) {
    KVASS_ASSIGN_OR_RETURN(Tree more,
                           parse_json<Json>("ChatOptions.variables", options.variables, Json::value_t::object));
    for (auto& [name, value] : more.root().get_ref<Json::object_t&>()) variables[name] = std::move(value);
  }
  const std::vector<std::string_view> own(names.begin(), names.end());
  const std::string text = variables.dump(-1, ' ', false, Json::error_handler_t::replace);
  KVASS_ASSIGN_OR_RETURN(jinja::Rendered rendered, style.render(text, own, options.render));
  if (options.continue_final_message) return cut_at_mark(rendered);
  return rendered;
}

std::string special_tokens(const Tokenizer& tokenizer) {
  Json tokens = Json::object();
  for (const auto& [name, id] : {std::pair("bos_token", tokenizer.bos()), std::pair("eos_token", tokenizer.eos())}) {
    if (id >= 0) tokens[name] = std::string(tokenizer.piece(id, /*show_control=*/true));
  }
  return tokens.dump(-1, ' ', false, Json::error_handler_t::replace);
}

jinja::Rendered rendered_part(const jinja::Rendered& rendered, size_t begin, size_t end) {
  jinja::Rendered part;
  size_t at = 0;  // where the piece begins
  for (const jinja::Piece& piece : rendered.pieces) {
    const size_t from = std::max(begin, at), until = std::min(end, at + piece.text.size());
    if (from < until) part.pieces.push_back({piece.text.substr(from - at, until - from), piece.outside});
    at += piece.text.size();
  }
  return part;
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const jinja::Rendered& rendered, PromptPlace place) {
  std::vector<TextPart> parts;
  for (const jinja::Piece& piece : rendered.pieces) parts.push_back({piece.text, !piece.outside});
  if (place == PromptPlace::after_control) return tokenizer.encode_after_control(parts);
  const bool first = place == PromptPlace::first;
  return tokenizer.encode_parts(parts, /*bos=*/first && tokenizer.add_bos(),
                                /*continued=*/place == PromptPlace::within_text);
}

std::string clock_text(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  char text[32];
  return {text, std::strftime(text, sizeof text, kClockForm, &local)};
}

Result<std::tm> parse_clock(std::string_view text) {
  std::tm time{};
  const std::string copy(text);
  const char* end = ::strptime(copy.c_str(), kClockForm, &time);
  // strptime takes the 31st of any month; as a time that is another day.
  std::tm real = time;
  ::timegm(&real);
  const bool exists = real.tm_mday == time.tm_mday && real.tm_mon == time.tm_mon && real.tm_sec == time.tm_sec;
  if (end == nullptr || *end != '\0' || !exists) {
    return bad_input("ChatOptions.now", "a time as in 2026-11-30T12:34:56", "'" + copy + "'");
  }
  return time;
}

}  // namespace kvass
