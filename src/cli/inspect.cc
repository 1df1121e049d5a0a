// kvass inspect: what a file holds.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "app/inspect.h"
#include "cli/command.h"

namespace kvass {
namespace {

struct InspectFlags {
  std::string file;
  bool program = false;
  bool json = false;
};

Status run(const InspectFlags& flags) {
  if (flags.json && !flags.program) {
    KVASS_ASSIGN_OR_RETURN(const nlohmann::json json, inspect_file_json(flags.file));
    return print_json(json);
  }
  KVASS_ASSIGN_OR_RETURN(const std::string text, flags.program ? inspect_program(flags.file) : inspect_file(flags.file));
  if (flags.json) return print_json({{"kind", "program"}, {"text", text}});
  fmt::print("{}", text);
  return flush_stdout();
}

}  // namespace

CommandAction add_inspect(CLI::App& command) {
  auto flags = std::make_shared<InspectFlags>();
  command.description("Print what a model file holds");
  command.footer("Example:\n  kvass inspect model.gguf --program");
  command.add_option("FILE", flags->file, "A GGUF file")->required();
  command.add_flag("--program", flags->program, "The program that kvass makes of it: one line an operator");
  command.add_flag("--json", flags->json, "One JSON object instead of text");
  return [flags] { return run(*flags); };
}

}  // namespace kvass
