// The flags that say how a model's weights come into memory, which every command that loads some takes under the same
// names.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "app/model_file.h"
#include "kvass/status.h"

namespace kvass {

class ModelFlags {
 public:
  // MODEL, which -m names too; `text` is its help.
  static CLI::Option* add_model(CLI::App& command, std::string& model,
                                const std::string& text = "A GGUF or .kvp file, or a Hugging Face folder");
  void add(CLI::App& command);
  void add_weights(CLI::App& command);                      // --weights alone
  void add_device(CLI::App& command);                       // for the commands that can run on a device
  Result<WeightOptions> resolve(bool quiet = false) const;  // quiet: no progress while they are loaded
  // ModelFile::open, with its notes on stderr unless `quiet`.
  static Result<ModelFile> open(const std::string& model, bool quiet = false);

 private:
  std::string weights_, pages_;
  std::string device_ = std::string(device_name(WeightOptions().device));
  bool check_ = false;
  int gpu_layers_ = 0;
  const CLI::Option* gpu_layers_given_ = nullptr;
};

}  // namespace kvass
