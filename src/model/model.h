// From a model file to a program and its weights. A family reads the file's metadata and emits the program: only
// family_*.cc (listed in families.inc) know an architecture. Nothing here runs anything.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/on_progress.h"
#include "base/thread_pool.h"
#include "file/gguf.h"
#include "kvass/status.h"
#include "ops/linear/weight_store.h"
#include "program/program.h"

namespace kvass {

struct ModelProgram {
  std::string family;  // "gemma3"
  Program program;
  std::vector<std::string> tensors;  // [weights of the program] the tensor's name in the file
  int64_t trained_context = 0;       // tokens
  WeightId head = kNone;             // the program's head_weight
  std::vector<std::string> notes{};  // for people: what the file leaves open, and what was taken for it
};

// The program of a file; general.architecture chooses the family. Every tensor in the result exists and has the right
// shape.
Result<ModelProgram> build_program(const Gguf& file);

// The weight type in which a tensor's blocks are packed.
Result<WeightType> weight_type_of(GgmlType type);

// Whether a tensor may be a vector of the program: its type is F32, F16 or BF16. widen() writes its numbers.
bool is_vector_type(GgmlType type);
void widen(const GgufTensor& tensor, float* out);

// Packs the weights, tensor by tensor, on the pool's threads. Releases each tensor's source pages once it is packed.
// `type`: matrices are converted to it where their row length allows (requantise.h); none: the file's types are kept.
Result<WeightStore> load_weights(const Gguf& file, const ModelProgram& model, ThreadPool& pool,
                                 std::optional<WeightType> type = {}, const OnProgress& progress = {});

// Bytes of the block that load_weights maps.
Result<size_t> plan_weights(const Gguf& file, const ModelProgram& model, std::optional<WeightType> type = {});

}  // namespace kvass
