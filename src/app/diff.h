// The job of `kvass inspect --diff`: what two model files do not have in common, of whatever kinds they are. Tensors
// are compared as numbers, some rows at a time: the memory is bounded.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvass/status.h"

namespace kvass {

struct DifferentEntry {
  std::string key, a, b;  // for people
};
struct DifferentTensor {
  std::string name;
  std::string a, b;         // type and shape: "F16 64 x 600"
  bool same_shape = false;  // only then the numbers are compared
  // Of the numbers; infinite where one of two is no number.
  double largest = 0.0;
  std::vector<int64_t> place;  // row and column of the first that differs so much
};

struct ModelDifference {
  std::vector<std::pair<std::string, std::string>> metadata_a, metadata_b;  // only there: key, value
  std::vector<DifferentEntry> metadata;
  std::vector<std::pair<std::string, std::string>> tensors_a, tensors_b;  // only there: name, type and shape
  std::vector<DifferentTensor> tensors;  // of another type, another shape or other numbers
  size_t same = 0;                       // tensors that are the same

  bool none() const {
    return metadata_a.empty() && metadata_b.empty() && metadata.empty() && tensors_a.empty() && tensors_b.empty() &&
           tensors.empty();
  }
};

Result<ModelDifference> compare_models(const std::string& a, const std::string& b);  // paths or names

}  // namespace kvass
