// --config FILE: a command's flags from a YAML file. What the command line says wins.
//
//     model: gemma-3-270m.gguf
//     attention_sink: "4,508"     # as --attention-sink; - and _ are the same
//     ignore_eos: true
//     stop: ["\n\n", "THE END"]   # a flag that may be given again takes a list
//
// One mapping of flag names to values; nothing nests. An unknown key is an error that names the nearest flag.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "kvass/status.h"

namespace kvass {

// Adds --config to a command.
void add_config(CLI::App& command);

// The file's part in parsing one command. The file may give what the command requires, so that the parser cannot check
// that: construct one before the parser runs, and apply it before the command does.
class ConfigFile {
 public:
  explicit ConfigFile(CLI::App& command);

  // Options that the command line has left out take what the file that --config names says. Throws CLI::RequiredError
  // where a required option is still missing.
  Status apply();
  // The file's part of it: messages name it `path`.
  Status apply_text(const std::string& path, const std::string& text);

 private:
  CLI::App* command_;
  std::vector<CLI::Option*> required_;
};

}  // namespace kvass
