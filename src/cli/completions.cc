// kvass completions: what a shell needs to complete commands and flags, written from the parser's own tables.
#include <algorithm>

#include "cli/command.h"

namespace kvass {
namespace {

struct Flag {
  std::vector<std::string> names;  // "--threads", "-t"
  std::string about;               // one line
  bool takes_value = false;
};

// A help text on one line.
std::string one_text(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// The text with `before` in front of each of these characters.
std::string escaped(std::string_view text, std::string_view characters, std::string_view before = "\\") {
  std::string out;
  for (const char c : text) {
    if (characters.find(c) != std::string_view::npos) out += before;
    out += c;
  }
  return out;
}

// As one word of a shell, between single quotes.
std::string zsh_word(std::string_view text) { return "'" + escaped(text, "'", "'\\'") + "'"; }
std::string fish_word(std::string_view text) { return "'" + escaped(text, "\\'") + "'"; }

std::vector<Flag> flags_of_command(const CLI::App& command) {
  std::vector<Flag> flags;
  for (const CLI::Option* option : command.get_options()) {
    Flag flag;
    for (const std::string& name : option->get_lnames()) flag.names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) flag.names.push_back("-" + name);
    if (flag.names.empty()) continue;  // an argument
    flag.about = one_text(option->get_description());
    flag.takes_value = option->get_items_expected_max() > 0;
    flags.push_back(std::move(flag));
  }
  return flags;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// Files are completed where no flag is being typed.
std::string bash(const CLI::App& app) {
  std::string names, cases;
  for (const CLI::App* command : commands_of(app)) {
    names += (names.empty() ? "" : " ") + command->get_name();
    std::string words;
    for (const Flag& flag : flags_of_command(*command))
      words += fmt::format("{}{}", words.empty() ? "" : " ", fmt::join(flag.names, " "));
    cases += fmt::format("    {}) flags=\"{}\" ;;\n", command->get_name(), words);
  }
  return fmt::format(
      "_kvass() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} flags=\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" = 1 ]; then\n"
      "    COMPREPLY=($(compgen -W \"{} --help --version\" -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${{COMP_WORDS[1]}} in\n{}  esac\n"
      "  if [[ $word == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$flags\" -- \"$word\"))\n"
      "  fi\n"
      "}}\n"
      "complete -o default -F _kvass kvass\n",
      names, cases);
}

std::string zsh(const CLI::App& app) {
  std::string names, cases;
  for (const CLI::App* command : commands_of(app)) {
    names += "    " + zsh_word(command->get_name() + ":" + one_text(command->get_description())) + "\n";
    cases += fmt::format("    {}) _arguments", command->get_name());
    for (const Flag& flag : flags_of_command(*command)) {
      for (const std::string& name : flag.names) {
        const std::string about = name + "[" + escaped(flag.about, "[]\\") + "]";
        cases += " \\\n      " + zsh_word(about + (flag.takes_value ? ":value:_files" : ""));
      }
    }
    cases += " \\\n      '*:file:_files' ;;\n";
  }
  return fmt::format(
      "#compdef kvass\n"
      "_kvass() {{\n"
      "  local -a commands=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  local command=$words[2]\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $command in\n{}  esac\n"
      "}}\n"
      "if [ \"$funcstack[1]\" = _kvass ]; then _kvass \"$@\"; else compdef _kvass kvass; fi\n",
      names, cases);
}

std::string fish(const CLI::App& app) {
  std::string text;
  for (const CLI::App* command : commands_of(app)) {
    text += fmt::format("complete -c kvass -n __fish_use_subcommand -f -a {} -d {}\n", command->get_name(),
                        fish_word(one_text(command->get_description())));
    for (const Flag& flag : flags_of_command(*command)) {
      text += fmt::format("complete -c kvass -n '__fish_seen_subcommand_from {}'", command->get_name());
      for (const std::string& name : flag.names) {
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      text += fmt::format("{} -d {}\n", flag.takes_value ? " -r" : "", fish_word(flag.about));
    }
  }
  return text;
}

}  // namespace

CommandAction add_completions(CLI::App& command) {
  auto shell = std::make_shared<std::string>();
  command.description("Print what a shell needs to complete this program's commands and flags");
  command.footer(
      "Examples:\n"
      "  source <(kvass completions bash)\n"
      "  kvass completions fish > ~/.config/fish/completions/kvass.fish");
  command.add_option("SHELL", *shell, "bash, zsh or fish")->required()->type_name("");
  return [shell, &command]() -> Status {
    const CLI::App& app = *command.get_parent();
    if (*shell == "bash") {
      write_stdout(bash(app));
    } else if (*shell == "zsh") {
      write_stdout(zsh(app));
    } else if (*shell == "fish") {
      write_stdout(fish(app));
    } else {
      return bad_input("SHELL", "bash, zsh or fish", "'" + *shell + "'");
    }
    return flush_stdout();
  };
}

}  // namespace kvass
