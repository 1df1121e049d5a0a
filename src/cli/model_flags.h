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
  void add(CLI::App& command);
  void add_weights(CLI::App& command);  // --weights alone
  void add_device(CLI::App& command);   // for the commands that can run on a device
  Result<WeightOptions> resolve() const;

 private:
  std::string weights_, pages_;
  std::string device_ = std::string(device_name(WeightOptions().device));
  bool check_ = false;
};

}  // namespace kvass
