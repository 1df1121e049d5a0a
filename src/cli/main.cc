// The `kvass` command: parses, runs one command, turns its status into an exit code.
#include <cxxabi.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <typeinfo>

#include "app/machine.h"
#include "base/cpu.h"
#include "base/new_file.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/signals.h"
#include "cli/values.h"
#include "kvass/version.h"

namespace kvass {
namespace {

struct Command {
  const char* name;
  CommandAction (*add)(CLI::App& command);
};

constexpr Command kCommands[] = {
#define KVASS_COMMAND(name) {#name, add_##name},
#include "cli/commands.inc"
#undef KVASS_COMMAND
};

constexpr char kAbout[] =
    "kvass runs language models in memory that is planned before the first token and never grows,\n"
    "and gives the same bits however the work is cut up.";

constexpr char kExamples[] =
    "Examples:\n"
    "  kvass run model.gguf -p \"Once upon a time\" -n 100     100 tokens after a prompt\n"
    "  kvass run model.gguf -p \"Once upon a time\" --endless  a stream without end, until Ctrl-C\n"
    "  kvass plan model.gguf --attention-sink 4,2044         what that would allocate, to the byte\n"
    "\n"
    "`kvass COMMAND --help` explains a command. KVASS_ISA=scalar|avx2|avx512|neon|dotprod|i8mm forces an instruction "
    "set.";

// Help that says what a flag takes and its default, without the parser's own notes.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(34); }
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string type = option->get_type_name();
    return option->get_items_expected() == 0 || type.empty() ? "" : " " + type;
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string value = option->get_default_str();
    return option->get_description() + (value.empty() ? "" : " (default: " + plain(value) + ")");
  }
  std::string make_positionals(const CLI::App* app) const override {
    return make_group("Arguments", true,
                      app->get_options([](const CLI::Option* option) { return option->get_positional(); }));
  }
  // One empty line between groups: the parser puts one after each, and one in front.
  std::string make_group(std::string group, bool positional, std::vector<const CLI::Option*> options) const override {
    const std::string text = CLI::Formatter::make_group(group, positional, std::move(options));
    return positional || group == "Options" ? text : text.substr(1);
  }

 private:
  static std::string plain(std::string value) {  // a list without its brackets
    if (value.size() > 1 && value.front() == '[') value = value.substr(1, value.size() - 2);
    return value;
  }
};

std::string version_text() {
  std::string available;
  for (const std::string& isa : available_isas()) available += " " + isa;
  const Result<Isa> isa = default_isa();
  return fmt::format("kvass {}\nnumerics version {}\ninstruction set {} (available:{})", KVASS_VERSION,
                     kNumericsVersion, isa.ok() ? isa_name(isa.value()) : isa.status().message(), available);
}

// The exit code, with the message of a failure on stderr. What was said to stdout must have come out.
int end(const Status& status) {
  const Status flushed = flush_stdout();
  const Status& whole = status.ok() ? flushed : status;
  if (!whole.ok()) say("kvass: {}\n", shown_message(whole));
  return exit_code(whole);
}

std::string command_names() {
  std::string names;
  for (size_t i = 0; i < std::size(kCommands); ++i) {
    names += (i == 0 ? "" : i + 1 == std::size(kCommands) ? " or " : ", ") + std::string(kCommands[i].name);
  }
  return names;
}

int bad_usage(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const std::string name = "kvass" + (parsed.empty() ? "" : " " + parsed[0]->get_name());
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  std::string what = std::string("usage: ") + error.what();
  // "Could not convert: --patience = x"
  constexpr std::string_view kConversion = "Could not convert: ";
  if (const size_t equals = what.find(" = ");
      dynamic_cast<const CLI::ConversionError*>(&error) && equals != what.npos) {
    const size_t begin = std::min(what.find(kConversion) + kConversion.size(), equals);
    what = bad_input("usage: " + what.substr(begin, equals - begin), "a value of its kind, in its range",
                     "'" + what.substr(equals + 3) + "'")
               .message();
  }
  if (!extras.empty()) {
    const bool command = parsed.empty() && !extras[0].starts_with('-');
    what = command ? bad_input("command", command_names(), "'" + extras[0] + "'").message()
                   : bad_input("usage", "the arguments of `" + name + "`", "'" + extras[0] + "'").message();
  }
  say("kvass: {}\n", one_line(what + "; see `" + name + " --help`"));
  return kBadUsage;
}

// The parser writes it into streams, which take the exception of no memory for themselves and leave a part of the text.
std::string whole_help(const CLI::App& app) {
  std::string help = app.help();
  if (app.help() != help) throw std::bad_alloc();
  return help;
}

int run(int argc, char** argv) {
  CLI::App app(kAbout, "kvass");
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(kExamples);
  app.set_version_flag("--version", version_text, "The version, that of the numerics, and the instruction sets");
  app.set_help_flag("-h,--help", "This help");
  app.require_subcommand(0, 1);
  struct Parsed {
    CLI::App* app;
    CommandAction action;
    ConfigFile config;
  };
  std::vector<Parsed> commands;
  for (const Command& command : kCommands) {
    CLI::App* sub = app.add_subcommand(command.name);
    CommandAction action = command.add(*sub);
    check_values(*sub);
    commands.push_back({sub, std::move(action), ConfigFile(*sub)});
  }
  try {
    std::vector<std::string> arguments(argv + 1, argv + argc);
    std::replace(arguments.begin(), arguments.end(), std::string("-ngl"), std::string("--gpu-layers"));
    std::reverse(arguments.begin(), arguments.end());  // as the parser takes them
    app.parse(std::move(arguments));
    for (Parsed& command : commands) {
      if (!command.app->parsed()) continue;
      Status status = command.config.apply();
      if (status.ok()) status = command.action();
      return end(status);
    }
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return bad_usage(app, error);
    const bool version = dynamic_cast<const CLI::CallForVersion*>(&error) != nullptr;
    write_stdout(version ? version_text() + "\n" : whole_help(app));
    return end({});
  }
  write_stdout(whole_help(app));
  return end({});
}

// A stream that the caller closed stays closed to us: the next file opened must not become it.
void hold_standard_streams() {
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) == -1) (void)::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

// The end by an exception, which is that of no memory or a mistake. Nothing here allocates.
int end_by_exception(const char* what) {
  static char line[512];
  std::snprintf(line, sizeof line - 1, "kvass: %s", what);
  const size_t length = std::strlen(line);
  line[length] = '\n';
  (void)!::write(STDERR_FILENO, line, length + 1);
  return kFailed;
}

constexpr char kNoMemory[] = "memory: expected enough for this command, got none";

// Where the exception of no memory meets code that must not throw, or there is no memory for the exception itself,
// nobody can catch it.
void end_without_catching() {
  const std::type_info* const type = abi::__cxa_current_exception_type();
  remove_unfinished_files();  // no destructor runs
  if (type == nullptr || *type == typeid(std::bad_alloc)) std::_Exit(end_by_exception(kNoMemory));
  std::abort();
}

// Before every other constructor of the program: the parser's are among those that allocate.
[[gnu::constructor(101)]] void watch_for_the_end() { std::set_terminate(end_without_catching); }

}  // namespace
}  // namespace kvass

int main(int argc, char** argv) {
  kvass::hold_standard_streams();
  kvass::end_on_signals();
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is a write that fails, and ends the command in order
  std::signal(SIGXFSZ, SIG_IGN);  // so is a snapshot beyond the limit of files
  try {
    kvass::set_arguments(argc, argv);
    return kvass::run(argc, argv);
  } catch (const std::bad_alloc&) {
    return kvass::end_by_exception(kvass::kNoMemory);
  } catch (const std::exception& error) {
    return kvass::end_by_exception(error.what());
  }
}
