// kvass list: the models that may be named instead of a path.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/model_file.h"
#include "app/model_names.h"
#include "cli/command.h"

namespace kvass {
namespace {

struct ListFlags {
  bool json = false;
};

// Nothing: neither a file nor a folder.
std::optional<uintmax_t> bytes_of(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status about = std::filesystem::status(path, error);
  uintmax_t bytes = 0;
  if (std::filesystem::is_regular_file(about)) {
    bytes = std::filesystem::file_size(path, error);
    return error ? std::nullopt : std::optional(bytes);
  }
  if (!std::filesystem::is_directory(about)) return std::nullopt;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code other;
    const uintmax_t more = entry->is_regular_file(other) ? entry->file_size(other) : 0;
    if (!other) bytes += more;
  }
  return bytes;
}

// "GGUF, gemma3", or why it does not open.
std::string what_it_is(const NamedModel& model, bool has_bytes) {
  if (model.path.empty()) return model.problem;
  if (!has_bytes) return "neither a file nor a folder";
  const Result<ModelFile> file = ModelFile::open(model.path);
  return file.ok() ? file->format() + ", " + file->family() : file.status().message();
}

std::string shown(std::string_view text) { return one_line(valid_utf8(text)); }

Status run(const ListFlags& flags) {
  nlohmann::json rows = nlohmann::json::array();
  KVASS_ASSIGN_OR_RETURN(const std::vector<NamedModel> models, named_models());
  for (const NamedModel& model : models) {
    const std::optional<uintmax_t> bytes = bytes_of(model.path);
    const std::string about = what_it_is(model, bytes.has_value());
    if (flags.json) {
      rows.push_back({{"name", model.name}, {"path", model.path}, {"bytes", bytes.value_or(0)}, {"about", about}});
    } else {
      print("{:<20} {:>10}  {:<28} {}\n", shown(model.name), bytes ? human_bytes(*bytes) : "-", shown(about),
            shown(model.path));
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
