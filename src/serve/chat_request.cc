#include "serve/chat_request.h"

#include <chrono>

#include "app/text.h"
#include "text/chat_prompt.h"

namespace kvass::serve {
namespace {

[[noreturn]] void refuse(const std::string& name, std::string_view expected, const std::string& got) {
  throw ApiError{400, expected_message(name, expected, got), name, "invalid_value"};
}

std::string content_text(const Json& content, const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) refuse(where, "a string, or a list of text parts", shown(content));
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string place = where + "[" + std::to_string(i) + "]";
    if (!part.is_object()) refuse(place, "an object", shown(part));
    const std::string type = part.value("type", Json()).is_string() ? part["type"].get<std::string>() : "";
    if (type != "text" && type != "input_text" && type != "output_text") {
      refuse(place + ".type", "text (this model reads nothing else)", type.empty() ? "none" : valid_utf8(type));
    }
    if (!part.contains("text") || !part["text"].is_string()) refuse(place + ".text", "a string", "none");
    for (const auto& [name, value] : part.items()) {
      if (name != "type" && name != "text" && name != "annotations" && name != "logprobs") {
        refuse(place + "." + valid_utf8(name), "no such field", shown(value));
      }
    }
    if (i > 0) text += "\n";
    text += part["text"].get<std::string>();
  }
  return text;
}

}  // namespace

Json take_messages(const Params& params, const char* name, const Json& list) {
  if (!list.is_array() || list.empty()) params.refuse(name, "a list of messages", shown(list));
  Json messages = Json::array();
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = params.full(name) + "[" + std::to_string(i) + "]";
    if (!list[i].is_object()) refuse(where, "an object", shown(list[i]));
    Params one(list[i], where);
    std::string role = one.text("role").value_or("");
    if (role == "developer") role = "system";  // OpenAI's newer word
    if (role != "system" && role != "user" && role != "assistant") {
      refuse(where + ".role", "system, developer, user or assistant", role.empty() ? "none" : in_quotes(role));
    }
    const Json* content = one.take("content");
    if (content == nullptr) refuse(where + ".content", "text", "none");
    Json message = {{"role", role}, {"content", content_text(*content, where + ".content")}};
    if (const auto author = one.text("name")) message["name"] = *author;
    if (const auto type = one.text("type"); type && *type != "message") refuse(where + ".type", "message", *type);
    one.harmless({"id", "status", "refusal", "annotations"});
    one.finish();
    messages.push_back(std::move(message));
  }
  return messages;
}

void take_template(Params& params, ChatRequest& request) {
  if (const Json* variables = params.take("chat_template_kwargs")) {
    if (!variables->is_object()) params.refuse("chat_template_kwargs", "an object", shown(*variables));
    request.options.variables = dump(*variables);
  }
  const std::optional<bool> generation = params.boolean("add_generation_prompt");
  request.options.continue_final_message = params.boolean("continue_final_message").value_or(false);
  request.options.generation_prompt = generation.value_or(!request.options.continue_final_message);
}

std::vector<int32_t> render(const Service& service, const ChatRequest& request) {
  if (service.model.chat_template.empty()) {
    throw ApiError{
        400,
        expected_message("messages", "a model with a chat template", "one without; /v1/completions takes plain text"),
        "messages", "invalid_value"};
  }
  const Result<jinja::Template> style = jinja::Template::parse(service.model.chat_template);
  if (!style.ok()) throw api_error(style.status());
  ChatPromptOptions options = request.options;
  const Result<std::tm> now = parse_clock(clock_text(std::chrono::system_clock::now()));
  if (!now.ok()) throw api_error(now.status());
  options.render.now = now.value();
  const Tokenizer& tokenizer = *service.model.tokenizer;
  const Result<jinja::Rendered> rendered =
      chat_prompt(style.value(), dump(request.messages), "", special_tokens(tokenizer), options);
  if (!rendered.ok()) throw api_error(rendered.status());
  return encode_prompt(tokenizer, rendered.value());
}

}  // namespace kvass::serve
