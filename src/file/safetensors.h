// A .safetensors file, read only: named tensors with shape and type. The header is checked before it is used; a bad
// file gives one line that names the file and the field. Owns the mapping; views live as long as it does. Format: the
// safetensors specification of Hugging Face.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file_map.h"
#include "kvass/status.h"

namespace kvass {

struct SafeTensor {
  std::string dtype;               // "F32", "F16", "BF16", "F64", "I64", "I32", "U8", …, as in the file
  std::vector<int64_t> shape;      // outermost first
  std::span<const uint8_t> bytes;  // little-endian, row-major; may lie at any address

  int64_t elements() const {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    return count;
  }
};

class SafeTensors {
 public:
  static Result<SafeTensors> open(const std::string& path);
  // `bytes` must outlive the result; `name` is the file's name in messages.
  static Result<SafeTensors> parse(std::span<const uint8_t> bytes, const std::string& name);

  const std::map<std::string, SafeTensor, std::less<>>& tensors() const { return tensors_; }
  const SafeTensor* find(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }
  // FileMap::check() of the file: to be asked after bytes were read and before they are used.
  Status check() const { return map_ ? map_->check() : Status(); }
  // The mapping, from which the tensors go on to be read.
  std::optional<FileMap> take_map() && { return std::exchange(map_, std::nullopt); }
  // Releases the mapped pages of these bytes of a tensor. A later access reads them again.
  void release(std::span<const uint8_t> bytes) const {
    if (map_) map_->release(static_cast<size_t>(bytes.data() - map_->bytes().data()), bytes.size());
  }

 private:
  SafeTensors() = default;
  std::optional<FileMap> map_;
  std::map<std::string, SafeTensor, std::less<>> tensors_;
};

}  // namespace kvass
