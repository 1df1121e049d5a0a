#include "cli/print_prompt.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "app/prompt.h"
#include "base/json_text.h"
#include "cli/command.h"
#include "cli/fields.h"

namespace kvass {
namespace {

using Json = nlohmann::ordered_json;

Result<ChatPromptOptions> options_of(const PrintPromptFlags& flags, const ChatOptions& style) {
  ChatPromptOptions options;
  options.generation_prompt = !flags.no_generation_prompt && !flags.continue_final_message;
  options.continue_final_message = flags.continue_final_message;
  options.variables = style.variables;
  const std::string now = style.now.empty() ? clock_text(std::chrono::system_clock::now()) : style.now;
  KVASS_ASSIGN_OR_RETURN(options.render.now, parse_clock(now));
  return options;
}

// The messages as a JSON array, with the system text before them.
Result<std::string> messages_of(const PrintPromptFlags& flags, const std::string& system) {
  if (!flags.messages.empty() && flags.messages != "-" && stdin_has_text())
    return bad_input("stdin", "nothing beside --messages FILE", "text that nothing reads");
  KVASS_ASSIGN_OR_RETURN(std::string text, read_text(flags.messages.empty() ? "-" : flags.messages));
  Json messages;
  if (flags.messages.empty()) {
    if (text.ends_with('\n')) text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
    messages = Json::array({{{"role", "user"}, {"content", text}}});
  } else {
    KVASS_ASSIGN_OR_RETURN(BasicJsonTree<Json> tree, parse_json<Json>(flags.messages, text, Json::value_t::array));
    messages = std::move(tree.root());
  }
  if (!system.empty()) messages.insert(messages.begin(), Json{{"role", "system"}, {"content", system}});
  return messages.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void TemplateFlags::add(CLI::App& command) {
  const std::string group = "Chat template";
  command
      .add_option(flags_of("ChatOptions.chat_template"), template_file,
                  "A jinja template instead of the model's; with --print-prompt MODEL may then be -")
      ->type_name("FILE")
      ->group(group);
  command.add_option(flags_of("ChatOptions.tools"), tools, "Tools for the template, a JSON array")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option(flags_of("ChatOptions.variables"), variables,
                  "A variable for the template: JSON, or text where it is none; now=TIME sets its clock.\n"
                  "May be given again")
      ->type_name("NAME=VALUE")
      ->group(group)
      ->allow_extra_args(false);
}

Status TemplateFlags::read(ChatOptions& options) const {
  if (!template_file.empty()) {
    KVASS_ASSIGN_OR_RETURN(options.chat_template, read_text(template_file));
  }
  if (!tools.empty()) {
    KVASS_ASSIGN_OR_RETURN(options.tools, read_text(tools));
    if (options.tools.empty()) return bad_input(tools, "a JSON array of tools", "an empty file");
  }
  if (variables.empty()) return {};
  Json all = Json::object();
  for (const std::string& variable : variables) {
    const size_t at = variable.find('=');
    if (at == 0 || at == std::string::npos) return bad_input("--template-var", "name=value", "'" + variable + "'");
    const std::string name = variable.substr(0, at), value = variable.substr(at + 1);
    if (name == "now") {
      options.now = value;
      continue;
    }
    KVASS_ASSIGN_OR_RETURN(BasicJsonTree<Json> parsed,
                           parse_json<Json>("--template-var " + name, value, kMostJsonDepth - 1));
    all[name] = parsed.root().is_discarded() ? Json(value) : std::move(parsed.root());
  }
  options.variables = all.dump(-1, ' ', false, Json::error_handler_t::replace);
  return {};
}

void PrintPromptFlags::add(CLI::App& command) {
  const std::string group = "The prompt alone";
  CLI::Option* with =
      command
          .add_flag("--print-prompt", print, "Print a conversation as the model's template renders it, and run nothing")
          ->group(group);
  command.add_option("--messages", messages, "The messages, a JSON array (default: stdin is one user's text)")
      ->type_name("FILE")
      ->group(group)
      ->needs(with);
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
    const bool style = option->get_group() == command.get_option("--template-file")->get_group();
    const bool meant = option == with || option->get_positional() || option->get_group() == with->get_group() ||
                       style || name == "--system" || name == "--json" || name == "--quiet" || name == "--help";
    if (!meant) with->excludes(option);
  }
}

Status print_prompt(const PrintPromptFlags& flags, const TemplateFlags& style, const std::string& model,
                    const std::string& system, bool json) {
  ChatOptions given;
  KVASS_RETURN_IF_ERROR(style.read(given));
  PromptRequest request;
  request.model = model;
  KVASS_ASSIGN_OR_RETURN(request.options, options_of(flags, given));
  if (!style.template_file.empty()) request.template_text = given.chat_template;
  KVASS_ASSIGN_OR_RETURN(request.messages, messages_of(flags, system));
  request.tools = given.tools;
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
