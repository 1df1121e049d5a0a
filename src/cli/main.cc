// The `kvass` command: parses, runs one command, turns its status into an exit code.
#include <csignal>
#include <cstdio>

#include "base/cpu.h"
#include "cli/command.h"
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
    "kvass runs transformer models in memory that is planned before the first token and never grows,\n"
    "and gives the same bits however the work is cut up.";

constexpr char kExamples[] =
    "Examples:\n"
    "  kvass run model.gguf -p \"Once upon a time\" -n 100     100 tokens after a prompt\n"
    "  kvass run model.gguf -p \"Once upon a time\" --endless  a stream without end, until Ctrl-C\n"
    "  kvass plan model.gguf --attention-sink 4,2044         what that would allocate, to the byte\n"
    "\n"
    "`kvass COMMAND --help` explains a command. KVASS_ISA=scalar|avx2|avx512 forces an instruction set.";

std::string version_text() {
  const CpuFeatures features = detect_cpu_features();
  std::string available;
  for (Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512vnni, Isa::neon}) {
    if (isa_available(isa, features)) available += " " + std::string(isa_name(isa));
  }
  const Result<Isa> isa = default_isa();
  return std::string("kvass ") + KVASS_VERSION + "\nnumerics version " + std::to_string(kNumericsVersion) +
         "\ninstruction set " + (isa.ok() ? std::string(isa_name(isa.value())) : isa.status().message()) + " (available:" + available + ")";
}

int run(int argc, char** argv) {
  CLI::App app(kAbout, "kvass");
  app.footer(kExamples);
  app.set_version_flag("--version", version_text);
  app.require_subcommand(0, 1);
  std::vector<std::pair<CLI::App*, CommandAction>> commands;
  for (const Command& command : kCommands) {
    CLI::App* sub = app.add_subcommand(command.name);
    CommandAction action = command.add(*sub);
    commands.emplace_back(sub, std::move(action));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::fprintf(stderr, "kvass: usage: %s; see `kvass %s--help`\n", error.what(),
                 app.get_subcommands().empty() ? "" : (app.get_subcommands()[0]->get_name() + " ").c_str());
    return kBadUsage;
  }
  for (const auto& [sub, action] : commands) {
    if (!sub->parsed()) continue;
    const Status status = action();
    if (status.ok()) return kDone;
    std::fprintf(stderr, "kvass: %s\n", status.message().c_str());
    return kBadInput;
  }
  std::printf("%s", app.help().c_str());
  return kDone;
}

}  // namespace
}  // namespace kvass

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is a write that fails, and is said
  return kvass::run(argc, argv);
}
