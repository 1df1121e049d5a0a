// From a model file to a program and its weights. A family reads its metadata and emits the program: the one place
// where an architecture is written down (family_*.cc, listed in families.inc). Nothing here runs anything.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "file/gguf.h"
#include "kvass/status.h"
#include "ops/linear/weight_store.h"
#include "program/program.h"

namespace kvass {

struct ModelProgram {
  std::string family;  // "gemma3"
  Program program;
  std::vector<std::string> tensors;  // [weights of the program] name of the file's tensor
  int64_t trained_context = 0;       // tokens
  WeightId head = kNone;             // the program's head_weight
};

// The program of a file, by its general.architecture. Every tensor that it names has been found, with the right shape.
Result<ModelProgram> build_program(const Gguf& file);

// The type that a tensor's blocks are packed as.
Result<WeightType> weight_type_of(GgmlType type);

// Packs the weights, tensor by tensor, on the pool's threads, and gives back each tensor's source pages once it is
// packed. `type`: what every matrix becomes whose rows allow it (requantise.h); none: what the file has.
Result<WeightStore> load_weights(const Gguf& file, const ModelProgram& model, ThreadPool& pool,
                                 std::optional<WeightType> type = {});

// Bytes of the block that load_weights maps.
Result<size_t> plan_weights(const Gguf& file, const ModelProgram& model, std::optional<WeightType> type = {});

}  // namespace kvass
