#include "app/model_names.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>

namespace kvass {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

std::string cache_folder() {
  if (const std::string folder = variable("KVASS_CACHE"); !folder.empty()) return folder;
  if (const std::string folder = variable("XDG_CACHE_HOME"); !folder.empty()) return folder + "/kvass";
  const std::string home = variable("HOME");
  return home.empty() ? "" : home + "/.cache/kvass";
}

std::vector<NamedModel> named_models() {
  std::vector<NamedModel> models;
  const std::string cache = cache_folder();
  if (cache.empty()) return models;
  std::error_code error;
  for (fs::directory_iterator entry(cache + "/models", error), end; !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    const fs::path path = fs::canonical(entry->path(), gone);
    models.push_back({entry->path().filename().string(), gone ? "" : path.string()});
  }
  std::sort(models.begin(), models.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return models;
}

bool is_model_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.front() != '-' &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; });
}

std::string model_path(const std::string& path_or_name) {
  std::error_code error;
  if (path_or_name.find('/') != std::string::npos || fs::exists(path_or_name, error)) return path_or_name;
  for (const NamedModel& model : named_models()) {
    if (model.name == path_or_name && !model.path.empty()) return model.path;
  }
  return path_or_name;
}

}  // namespace kvass
