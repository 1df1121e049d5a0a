// Finds verification data for tests: in the shared folder if it exists, otherwise the small copies in tests/data.
#pragma once

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace kvass::testing {

// The path of golden file `name`, or nothing.
inline std::optional<std::string> golden_path(const std::string& name) {
  for (const char* folder : {KVASS_GOLDENS_DIR, KVASS_TEST_DATA_DIR}) {
    const std::string path = std::string(folder) + "/" + name;
    if (std::ifstream(path).good()) return path;
  }
  return std::nullopt;
}

inline std::optional<nlohmann::json> load_golden(const std::string& name) {
  const std::optional<std::string> path = golden_path(name);
  if (!path) return std::nullopt;
  std::ifstream file(*path);
  return nlohmann::json::parse(file);
}

// Long tests run if KVASS_LONG is set to anything but 0.
inline bool long_tests() {
  const char* value = std::getenv("KVASS_LONG");
  return value != nullptr && std::string(value) != "0";
}

}  // namespace kvass::testing
