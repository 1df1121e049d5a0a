// What the parts of folder.h share: the families of folders, and the reading of one. Private to model/.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "file/gguf_writer.h"
#include "file/json_fields.h"
#include "kvass/status.h"
#include "model/folder.h"

namespace kvass {

// How families of folders differ.
enum FolderTrait : uint32_t {
  kNeighbours = 1,          // GGUF stores rows of q and k for rotary pairs (2i, 2i + 1); folders have halves
  kQkvBiases = 2,           // q, k and v have biases
  kAttentionBiasField = 4,  // all four projections have, where attention_bias says so
  kBiasFields = 8,          // the same, and the feed-forward where mlp_bias says so
  kHeadNorms = 16,          // norms of the heads of q and k
  kPostNorms = 32,          // norms after attention and feed-forward
  kOffsetNorms = 64,        // the factor of a norm is 1 + its weight
  kSlidingLayers = 128,     // some layers slide, with a rotary base of their own; layer_types
  kWindow = 256,            // sliding_window is that of every layer
  kTied = 512,              // the head is the embedding unless tie_word_embeddings is false; otherwise if it is true
  kTextPart = 1024,         // text_config has the model; the rest is another kind of input
};

struct FolderFamily {
  std::string_view architecture;  // in config.json
  std::string_view gguf;          // general.architecture
  uint32_t traits = 0;
  bool is(FolderTrait trait) const { return (traits & trait) != 0; }
};

// What the translation of the tensors needs of the configuration.
struct FolderShape {
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocabulary = 0;  // 0: it does not say
  bool attention_biases = false;
  bool mlp_biases = false;
  bool tied = false;
  double query_factor = 1.0;           // of q, beside 1 / sqrt(head_dim): it goes into the norm of q
  std::vector<float> rotary_divisors;  // of the frequencies; empty: none
};

// Writes the metadata of the model.
Result<FolderShape> translate_config(const FolderFamily& family, const JsonFields& config, GgufWriter& out);

// The rotary embedding (folder_rotary.cc): what scales it, and its base, under the keys of `family`.
Status translate_rotary(const FolderFamily& family, const JsonFields& config, FolderShape& shape, GgufWriter& out);

// An error where an object has a field that is neither among `known` nor without effect, and whose name says that it
// may change what a model computes.
Status check_known(const JsonFields& fields, std::span<const std::string_view> known);

inline std::string folder_key(const FolderFamily& family, std::string_view key) {
  return std::string(family.gguf) + "." + std::string(key);
}

}  // namespace kvass
