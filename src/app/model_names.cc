#include "app/model_names.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/os_error.h"
#include "base/platform.h"

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

Result<std::vector<NamedModel>> named_models() {
  std::vector<NamedModel> models;
  const std::string cache = cache_folder();
  if (cache.empty()) return models;
  const std::string folder = cache + "/models";
  std::vector<std::string> names;
  if (!platform::list_folder(folder, names)) {
    if (errno == ENOENT) return models;
    return os_error(folder, "a folder of models", errno);
  }
  for (const std::string& name : names) {
    std::error_code broken;
    const fs::path path = fs::canonical(folder + "/" + name, broken);
    const bool gone = broken == std::errc::no_such_file_or_directory;
    NamedModel model{name, broken ? "" : path.string(), ""};
    if (broken) model.problem = gone ? "the file is gone" : "a link that cannot be followed: " + broken.message();
    models.push_back(std::move(model));
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
  const Result<std::vector<NamedModel>> models = named_models();
  if (!models.ok()) return path_or_name;
  for (const NamedModel& model : models.value()) {
    if (model.name == path_or_name && !model.path.empty()) return model.path;
  }
  return path_or_name;
}

}  // namespace kvass
