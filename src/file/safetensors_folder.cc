#include "file/safetensors_folder.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "base/platform.h"
#include "file/json_fields.h"
#include "file/one_line.h"

namespace kvass {
namespace {

bool is_file(const std::string& path) { return platform::file_info(path).kind == platform::FileKind::file; }

// {"weight_map": {tensor: shard, …}}
Result<std::map<std::string, std::string>> read_index(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(const JsonTree tree, read_json_file(path));
  KVASS_ASSIGN_OR_RETURN(const JsonFields entries, JsonFields(tree.root(), path).object("weight_map"));
  std::map<std::string, std::string> index;
  if (!entries.json().is_object() || entries.json().empty()) {
    return bad_input(path + ": weight_map", "the shard of each tensor", "none");
  }
  for (const auto& [tensor, shard] : entries.json().items()) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (name.empty() || name.front() == '.' || name.find_first_of("/\\") != std::string::npos) {
      return bad_input(path + ": weight_map of " + quoted_name(tensor), "the name of a file in this folder",
                       json_shown(shard));
    }
    index.emplace(tensor, name);
  }
  return index;
}

}  // namespace

Result<SafeTensorsFolder> SafeTensorsFolder::open(const std::string& folder) {
  SafeTensorsFolder out;
  out.files_ = folder + "/model.safetensors";
  if (is_file(out.files_)) {
    KVASS_RETURN_IF_ERROR(out.add(out.files_));
    return out;
  }
  out.files_ += ".index.json";
  if (!is_file(out.files_)) {
    const char* const other =
        is_file(folder + "/pytorch_model.bin") || is_file(folder + "/pytorch_model.bin.index.json")
            ? "pytorch_model.bin (save it again as safetensors)"
        : is_file(folder + "/adapter_model.safetensors") ? "adapter_model.safetensors (merge it into its model)"
                                                         : "neither";
    return bad_input(folder, "model.safetensors or model.safetensors.index.json in the folder", other);
  }
  KVASS_ASSIGN_OR_RETURN(const auto index, read_index(out.files_));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index) shards.insert(shard);
  for (const std::string& shard : shards) {
    const std::string path = folder + "/" + shard;
    if (!is_file(path)) return bad_input(out.files_ + ": weight_map", "its shards in the folder", "no file " + path);
    KVASS_RETURN_IF_ERROR(out.add(path));
  }
  KVASS_RETURN_IF_ERROR(out.check_index(index));
  return out;
}

Status SafeTensorsFolder::add(const std::string& path) {
  KVASS_ASSIGN_OR_RETURN(SafeTensors file, SafeTensors::open(path));
  paths_.push_back(path);
  for (const auto& [name, tensor] : file.tensors()) {
    const auto [known, fresh] = tensors_.emplace(name, Tensor{tensor, paths_.size() - 1});
    if (!fresh)
      return bad_input(path + ": tensor " + quoted_name(name), "each tensor once",
                       "it also in " + paths_[known->second.file]);
  }
  maps_.push_back(*std::move(file).take_map());
  return {};
}

Status SafeTensorsFolder::check_index(const std::map<std::string, std::string>& index) const {
  for (const auto& [name, shard] : index) {
    const Tensor* const found = find(name);
    if (found && paths_[found->file].ends_with("/" + shard)) continue;
    return bad_input(files_ + ": weight_map of " + quoted_name(name), "it in " + shard,
                     found ? "it in " + paths_[found->file] : "no such tensor there");
  }
  for (const auto& [name, tensor] : tensors_) {
    if (!index.contains(name)) return bad_input(field(name), "it in the index too", "no entry in " + files_);
  }
  return {};
}

const SafeTensorsFolder::Tensor* SafeTensorsFolder::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::string SafeTensorsFolder::field(std::string_view name) const {
  const Tensor* const found = find(name);
  return (found ? paths_[found->file] : files_) + ": tensor " + quoted_name(name);
}

}  // namespace kvass
