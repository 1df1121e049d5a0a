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
  Result<WeightOptions> resolve() const;

 private:
  std::string weights_, pages_;
  bool check_ = false;
};

}  // namespace kvass
