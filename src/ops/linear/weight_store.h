// The weights of a program in memory: one block that is filled once at load, or the pages of the file that has them
// packed already. Read by everybody, written by nobody after that.
#pragma once

#include <optional>
#include <vector>

#include "base/block.h"
#include "base/file_map.h"
#include "ops/linear/weight.h"

namespace kvass {

struct WeightStore {
  Block block;                         // every weight, 64-byte aligned; empty where they are in `file`
  std::optional<FileMap> file;         // mapped, not copied
  size_t file_bytes = 0;               // of it that are weights
  std::vector<PackedWeight> matrices;  // [weights of the program]; empty for vectors
  std::vector<const float*> vectors;   // [weights of the program] `inputs` floats; null for matrices

  // Whether the weights are still those that were loaded: FileMap::check() of the file that has them. To be asked after
  // they were read and before what was made of them is used.
  Status check() const { return file ? file->check() : Status(); }
  size_t bytes() const { return block.bytes() + file_bytes; }
};

}  // namespace kvass
