// The flags of chat templates, and kvass chat --print-prompt: a whole conversation as the model's template renders it,
// and its token ids. Runs no model.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/chat.h"
#include "kvass/status.h"

namespace kvass {

// What a conversation's template is and gets.
struct TemplateFlags {
  std::string template_file;           // or empty: the model's own
  std::string tools;                   // a file, or empty
  std::vector<std::string> variables;  // name=value; the value is JSON, or text where it is none

  void add(CLI::App& command);
  bool given() const { return !template_file.empty() || !tools.empty() || !variables.empty(); }
  // The fields of that name.
  Status read(ChatOptions& options) const;
};

struct PrintPromptFlags {
  bool print = false;
  std::string messages;  // a file, or empty: stdin is the text of one user turn
  bool no_generation_prompt = false;
  bool continue_final_message = false;

  void add(CLI::App& command);
  // Once the command has all its options: those that have no meaning beside --print-prompt are refused beside it.
  void exclude_others(CLI::App& command) const;
};

// `model`: a file, or - with a template file: then there is no tokenizer, and the ids are null. `system`: a system turn
// before the messages; empty: none.
Status print_prompt(const PrintPromptFlags& flags, const TemplateFlags& style, const std::string& model,
                    const std::string& system, bool json);

}  // namespace kvass
