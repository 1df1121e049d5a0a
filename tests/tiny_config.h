// The shape of a tiny model: the metadata of its file, and what its architecture implies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "file/gguf.h"

namespace kvass::testing {

struct TinyYarn {
  int64_t context = 0;  // tokens; 0: no YaRN
  double beta_fast = 32.0;
  double beta_slow = 1.0;
};

struct TinyConfig {
  std::string architecture = "gemma3";
  int64_t layers = 7;
  int64_t pattern = 3;  // gemma3: layers 2 and 5 are full; 0: the file does not say
  int64_t width = 64;
  int64_t hidden = 256;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_dim = 16;
  int64_t window = 16;  // gemma3: of sliding layers; other families: of every layer, 0: none
  int64_t vocabulary = 300;
  double full_base = 1e6;
  double sliding_base = 1e4;      // gemma3
  double rope_factor = 1.0;       // of the full layers; linear, or YaRN's
  double attention_factor = 1.0;  // factor of cos and sin
  TinyYarn yarn;
  std::vector<float> divisors;  // [head_dim / 2] divisors of the rotary frequencies; may be empty
  float attention_cap = 0.0f;   // gemma3; 0: none
  float logit_cap = 0.0f;
  float epsilon = 1e-6f;
  bool biases = false;      // every projection has a bias
  bool byte_level = false;  // true: a byte-level vocabulary with ChatML's tokens; false: a SentencePiece vocabulary
  bool tied = true;         // the head is the embedding table
  bool floats = false;      // every matrix is written as the F32 numbers that it represents
  std::vector<GgmlType> weights;  // types of the matrices, in turn; none: a mixture of the usual ones
  uint32_t seed = 1;

  bool gemma() const { return architecture == "gemma3"; }
  bool full(int64_t layer) const { return gemma() ? (layer + 1) % pattern == 0 : window == 0; }
  bool post_norms() const { return gemma(); }
  bool head_norms() const { return gemma() || architecture == "qwen3"; }
  bool qkv_biases() const { return biases || architecture == "qwen2"; }
  bool neighbours() const { return architecture == "llama"; }  // rotary pairs (2i, 2i + 1)
};

// The shape of the other families: full layers without caps.
inline TinyConfig tiny_llama(const std::string& architecture = "llama") {
  TinyConfig config;
  config.architecture = architecture;
  config.layers = 3;
  config.window = 0;
  config.full_base = 1e4;
  return config;
}

// Every type of weights that files have.
inline constexpr GgmlType kFileTypes[] = {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) GgmlType::name,
#include "base/weight_types.inc"
};

// All matrices of these types, in rows of 256.
inline TinyConfig tiny_of(const std::vector<GgmlType>& weights) {
  TinyConfig config = tiny_llama();
  config.layers = 2;
  config.width = 256;
  config.head_dim = 64;
  config.weights = weights;
  return config;
}

}  // namespace kvass::testing
