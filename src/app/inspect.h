// The job of `kvass inspect`: what a model file holds, as text or JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "kvass/status.h"

namespace kvass {

Result<std::string> inspect_file(const std::string& path);          // metadata and tensors, a line each
Result<nlohmann::json> inspect_file_json(const std::string& path);  // {"kind", "version", "metadata", "tensors"}
Result<std::string> inspect_program(const std::string& path);       // the program that the model's family makes of it

}  // namespace kvass
