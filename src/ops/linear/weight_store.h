// The weights of a program in memory: one block, filled once at load, read by everybody, written by nobody after that.
#pragma once

#include <vector>

#include "base/block.h"
#include "ops/linear/weight.h"

namespace kvass {

struct WeightStore {
  Block block;                         // every weight, 64-byte aligned
  std::vector<PackedWeight> matrices;  // [weights of the program]; empty for vectors
  std::vector<const float*> vectors;   // [weights of the program] `inputs` floats; null for matrices

  size_t bytes() const { return block.bytes(); }
};

}  // namespace kvass
