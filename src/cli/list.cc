// kvass list: the models that may be named instead of a path.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/model_file.h"
#include "app/model_names.h"
#include "cli/command.h"

namespace kvass {
namespace {

struct ListFlags {
  bool json = false;
};

uintmax_t bytes_of(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::filesystem::file_size(path, error);
  uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    if (entry.is_regular_file(error)) bytes += entry.file_size(error);
  }
  return bytes;
}

// "GGUF, gemma3", or why it does not open.
std::string what_it_is(const NamedModel& model) {
  if (model.path.empty()) return "the file is gone";
  const Result<ModelFile> file = ModelFile::open(model.path);
  return file.ok() ? file->format() + ", " + file->family() : file.status().message();
}

Status run(const ListFlags& flags) {
  nlohmann::json rows = nlohmann::json::array();
  const std::vector<NamedModel> models = named_models();
  for (const NamedModel& model : models) {
    const uintmax_t bytes = model.path.empty() ? 0 : bytes_of(model.path);
    if (flags.json) {
      rows.push_back({{"name", model.name}, {"path", model.path}, {"bytes", bytes}, {"about", what_it_is(model)}});
    } else {
      print("{:<20} {:>10}  {:<28} {}\n", model.name, human_bytes(bytes), what_it_is(model), model.path);
    }
  }
  if (flags.json) return print_json(rows);
  if (models.empty()) {
    say("kvass: no models in {} yet; `kvass pull` and scripts/fetch-model.sh fetch some\n",
        cache_folder().empty() ? "the cache folder" : cache_folder() + "/models");
  }
  return flush_stdout();
}

}  // namespace

CommandAction add_list(CLI::App& command) {
  auto flags = std::make_shared<ListFlags>();
  command.description("List the models that were fetched: each name may stand for MODEL in every command");
  command.footer("They are links in models/ of $KVASS_CACHE, $XDG_CACHE_HOME/kvass or ~/.cache/kvass.");
  command.add_flag("--json", flags->json, "A JSON list instead of text");
  return [flags] { return run(*flags); };
}

}  // namespace kvass
