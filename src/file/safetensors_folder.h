// The tensors of a folder of Hugging Face: model.safetensors, or the shards that model.safetensors.index.json names.
// What does not agree (a missing shard, a tensor that the index and the shard do not both have) is an error with the
// file's name. Not a model: it knows no architecture. Owns the mappings.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_map.h"
#include "file/safetensors.h"
#include "kvass/status.h"

namespace kvass {

class SafeTensorsFolder {
 public:
  struct Tensor {
    SafeTensor tensor;
    size_t file = 0;  // which of the files it is in
  };

  static Result<SafeTensorsFolder> open(const std::string& folder);

  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  const Tensor* find(std::string_view name) const;
  std::string field(std::string_view name) const;      // "folder/model.safetensors: tensor 'x'", for messages
  const std::string& files() const { return files_; }  // "folder/model.safetensors", or the index
  // The mappings, which the tensors need. They stay where they are.
  std::vector<FileMap> take_maps() && { return std::move(maps_); }

 private:
  SafeTensorsFolder() = default;
  Status add(const std::string& path);
  Status check_index(const std::map<std::string, std::string>& index) const;

  std::string files_;
  std::vector<std::string> paths_;  // [files]
  std::vector<FileMap> maps_;       // [files]
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace kvass
