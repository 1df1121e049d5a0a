#include "cli/print_prompt.h"

#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/prompt.h"
#include "cli/command.h"

namespace kvass {
namespace {

using Json = nlohmann::ordered_json;

// The clock of strftime_now: now, or the time that --template-var now=2026-11-30T12:34:56 gives.
Result<std::tm> clock_of(const std::optional<std::string>& given) {
  std::tm time{};
  if (given) {
    const char* end = ::strptime(given->c_str(), "%Y-%m-%dT%H:%M:%S", &time);
    if (end == nullptr || *end != '\0') {
      return bad_input("--template-var now", "a time as in 2026-11-30T12:34:56", "'" + *given + "'");
    }
    return time;
  }
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  ::localtime_r(&now, &time);
  return time;
}

Result<ChatPromptOptions> options_of(const PrintPromptFlags& flags) {
  ChatPromptOptions options;
  options.generation_prompt = !flags.no_generation_prompt && !flags.continue_final_message;
  options.continue_final_message = flags.continue_final_message;
  Json variables = Json::object();
  std::optional<std::string> now;
  for (const std::string& variable : flags.variables) {
    const size_t at = variable.find('=');
    if (at == 0 || at == std::string::npos) return bad_input("--template-var", "name=value", "'" + variable + "'");
    const std::string name = variable.substr(0, at), value = variable.substr(at + 1);
    if (name == "now") {
      now = value;
      continue;
    }
    const Json parsed = Json::parse(value, nullptr, /*allow_exceptions=*/false);
    variables[name] = parsed.is_discarded() ? Json(value) : parsed;
  }
  options.variables = variables.dump(-1, ' ', false, Json::error_handler_t::replace);
  KVASS_ASSIGN_OR_RETURN(options.render.now, clock_of(now));
  return options;
}

// The messages as a JSON array, with the system text before them.
Result<std::string> messages_of(const PrintPromptFlags& flags, const std::string& system) {
  KVASS_ASSIGN_OR_RETURN(std::string text, read_text(flags.messages.empty() ? "-" : flags.messages));
  Json messages;
  if (flags.messages.empty()) {
    if (!text.empty() && text.back() == '\n') text.pop_back();
    messages = Json::array({{{"role", "user"}, {"content", text}}});
  } else {
    messages = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!messages.is_array()) {
      return bad_input(flags.messages, "a JSON array of messages",
                       messages.is_discarded() ? "text that is no JSON" : messages.type_name());
    }
  }
  if (!system.empty()) messages.insert(messages.begin(), Json{{"role", "system"}, {"content", system}});
  return messages.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void PrintPromptFlags::add(CLI::App& command) {
  const std::string group = "The prompt alone";
  CLI::Option* with =
      command
          .add_flag("--print-prompt", print, "Print a conversation as the model's template renders it, and run nothing")
          ->group(group);
  const auto option = [&](const char* name, auto& value, const char* text, const char* type) {
    return command.add_option(name, value, text)->type_name(type)->group(group)->needs(with);
  };
  option("--messages", messages, "The messages, a JSON array (default: stdin is one user's text)", "FILE");
  option("--tools", tools, "Tools for the template, a JSON array", "FILE");
  option("--template-file", template_file, "A jinja template instead of the model's; MODEL may then be -", "FILE");
  option("--template-var", variables,
         "A variable for the template: JSON, or text where it is none; now=TIME sets its clock", "NAME=VALUE")
      ->take_all();
  command.add_flag("--no-generation-prompt", no_generation_prompt, "Do not end where the model speaks next")
      ->group(group)
      ->needs(with);
  command.add_flag("--continue-final-message", continue_final_message, "End inside the last message, to be continued")
      ->group(group)
      ->needs(with);
}

void PrintPromptFlags::exclude_others(CLI::App& command) const {
  CLI::Option* with = command.get_option("--print-prompt");
  for (CLI::Option* option : command.get_options()) {
    const std::string& name = option->get_name();
    const bool meant = option == with || option->get_positional() || option->get_group() == with->get_group() ||
                       name == "--system" || name == "--json" || name == "--quiet" || name == "--help";
    if (!meant) with->excludes(option);
  }
}

Status print_prompt(const PrintPromptFlags& flags, const std::string& model, const std::string& system, bool json) {
  PromptRequest request;
  request.model = model;
  KVASS_ASSIGN_OR_RETURN(request.options, options_of(flags));
  if (!flags.template_file.empty()) {
    KVASS_ASSIGN_OR_RETURN(request.template_text, read_text(flags.template_file));
  }
  KVASS_ASSIGN_OR_RETURN(request.messages, messages_of(flags, system));
  if (!flags.tools.empty()) {
    KVASS_ASSIGN_OR_RETURN(request.tools, read_text(flags.tools));
    if (request.tools.empty()) return bad_input(flags.tools, "a JSON array of tools", "an empty file");
  }
  KVASS_ASSIGN_OR_RETURN(const RenderedPrompt prompt, render_prompt(request));
  if (!json) {
    write_stdout(prompt.text);
    return flush_stdout();
  }
  nlohmann::json result{{"text", prompt.text}, {"ids", nullptr}};
  if (prompt.ids) result["ids"] = *prompt.ids;
  return print_json(result);
}

}  // namespace kvass
