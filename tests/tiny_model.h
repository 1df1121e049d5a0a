// A small random model in Gemma 3's shape: a GGUF file made in memory, and its weights as doubles, decoded here from
// the same bytes. Small enough to run in milliseconds, with what the big ones have: sliding and full layers, grouped
// queries, several weight types, a tied head whose rows are no multiple of a panel, rings that wrap after a few tokens.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "file/gguf_writer.h"

namespace kvass::testing {

struct TinyConfig {
  int64_t layers = 7;
  int64_t pattern = 3;  // layers 2 and 5 are full
  int64_t width = 64;
  int64_t hidden = 256;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_dim = 16;
  int64_t window = 16;  // of sliding layers
  int64_t vocabulary = 300;
  double full_base = 1e6;
  double sliding_base = 1e4;
  double rope_factor = 1.0;    // linear scaling of the full layers
  float attention_cap = 0.0f;  // 0: none
  float logit_cap = 0.0f;
  float epsilon = 1e-6f;
  uint32_t seed = 1;

  bool full(int64_t layer) const { return (layer + 1) % pattern == 0; }
};

// A tensor: the file's bytes and the same numbers as doubles.
struct TinyTensor {
  GgmlType type = GgmlType::F32;
  int64_t inputs = 0;
  int64_t outputs = 0;  // 0: a vector
  std::vector<uint8_t> bytes;
  std::vector<double> values;  // [max(outputs, 1)][inputs]
};

class TinyModel {
 public:
  explicit TinyModel(const TinyConfig& config = {}) : config_(config), random_(config.seed) {
    const int64_t q_width = config.heads * config.head_dim, kv_width = config.kv_heads * config.head_dim;
    matrix("token_embd", GgmlType::Q8_0, config.vocabulary, config.width, 0.05);
    vector("output_norm", config.width, 1.0);
    const GgmlType cycle[] = {GgmlType::Q5_0, GgmlType::Q8_0, GgmlType::F16, GgmlType::F32, GgmlType::BF16};
    const GgmlType super[] = {GgmlType::Q4_K, GgmlType::Q6_K, GgmlType::Q8_0};  // rows of 256
    for (int64_t layer = 0; layer < config.layers; ++layer) {
      const auto name = [&](const char* part) { return "blk." + std::to_string(layer) + "." + part; };
      const auto type = [&](int64_t i) { return cycle[(layer + i) % 5]; };
      const double in = 1.0 / std::sqrt(static_cast<double>(config.width));
      vector(name("attn_norm"), config.width, 1.0);
      matrix(name("attn_q"), type(0), q_width, config.width, in);
      matrix(name("attn_k"), type(1), kv_width, config.width, in);
      matrix(name("attn_v"), type(2), kv_width, config.width, in);
      vector(name("attn_q_norm"), config.head_dim, 1.6);
      vector(name("attn_k_norm"), config.head_dim, 1.6);
      matrix(name("attn_output"), type(3), config.width, q_width, in);
      vector(name("post_attention_norm"), config.width, 1.0);
      vector(name("ffn_norm"), config.width, 1.0);
      matrix(name("ffn_gate"), type(4), config.hidden, config.width, in);
      matrix(name("ffn_up"), type(0), config.hidden, config.width, in);
      matrix(name("ffn_down"), super[layer % 3], config.width, config.hidden, 0.06);
      vector(name("post_ffw_norm"), config.width, 1.0);
    }
  }

  const TinyConfig& config() const { return config_; }
  const std::vector<double>& values(const std::string& name) const { return tensors_.at(name + ".weight").values; }

  // A writer with everything in it: tests that damage a file change it before they ask for the bytes.
  GgufWriter writer() const;
  std::vector<uint8_t> gguf() const { return writer().finish(); }

  // Token ids without a pattern.
  std::vector<int32_t> tokens(size_t count, uint32_t seed = 7) const {
    std::mt19937 random(seed);
    std::vector<int32_t> ids = {2};
    while (ids.size() < count)
      ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(config_.vocabulary)));
    ids.resize(count);
    return ids;
  }

 private:
  double uniform() { return static_cast<double>(random_()) * 0x1p-31 - 1.0; }  // [-1, 1)
  uint8_t byte() { return static_cast<uint8_t>(random_() >> 13); }

  void vector(const std::string& name, int64_t width, double around) {
    TinyTensor tensor{GgmlType::F32, width, 0, {}, {}};
    for (int64_t i = 0; i < width; ++i) put(tensor, static_cast<float>(around * (1.0 + 0.2 * uniform())));
    tensors_[name + ".weight"] = std::move(tensor);
  }
  void matrix(const std::string& name, GgmlType type, int64_t outputs, int64_t inputs, double size) {
    TinyTensor tensor{type, inputs, outputs, {}, {}};
    const auto count = static_cast<size_t>(outputs * inputs);
    while (tensor.values.size() < count) {
      switch (type) {
        case GgmlType::F32:
          put(tensor, static_cast<float>(1.7 * size * uniform()));
          break;
        case GgmlType::F16:
          put_half(tensor, float_to_f16(static_cast<float>(1.7 * size * uniform())), false);
          break;
        case GgmlType::BF16:
          put_half(tensor, float_to_bf16(static_cast<float>(1.7 * size * uniform())), true);
          break;
        case GgmlType::Q8_0:
          put_q8_0(tensor, size);
          break;
        case GgmlType::Q5_0:
          put_q5_0(tensor, size);
          break;
        case GgmlType::Q4_K:
          put_q4_k(tensor, size);
          break;
        default:
          put_q6_k(tensor, size);
      }
    }
    tensors_[name + ".weight"] = std::move(tensor);
  }

  static void raw(TinyTensor& tensor, const void* data, size_t bytes) {
    const auto* first = static_cast<const uint8_t*>(data);
    tensor.bytes.insert(tensor.bytes.end(), first, first + bytes);
  }
  static void put(TinyTensor& tensor, float value) {
    raw(tensor, &value, sizeof value);
    tensor.values.push_back(static_cast<double>(value));
  }
  static void put_half(TinyTensor& tensor, uint16_t half, bool brain) {
    raw(tensor, &half, sizeof half);
    tensor.values.push_back(static_cast<double>(brain ? bf16_to_float(half) : f16_to_float(half)));
  }
  // A random scale as a half: written, and returned as the double that it means.
  double scale(TinyTensor& tensor, double size) {
    const uint16_t half = float_to_f16(static_cast<float>(size * (1.0 + 0.3 * uniform())));
    raw(tensor, &half, sizeof half);
    return static_cast<double>(f16_to_float(half));
  }

  void put_q8_0(TinyTensor& tensor, double size) {  // d, 32 int8
    const double d = scale(tensor, size / 74.0);
    for (int i = 0; i < 32; ++i) {
      const auto q = static_cast<int8_t>(byte());
      raw(tensor, &q, 1);
      tensor.values.push_back(d * q);
    }
  }
  void put_q5_0(TinyTensor& tensor, double size) {  // d, 32 fifth bits, 16 bytes: low nibbles are elements 0..15
    const double d = scale(tensor, size / 9.2);
    const auto high = static_cast<uint32_t>(random_());
    raw(tensor, &high, 4);
    uint8_t low[16];
    for (uint8_t& b : low) b = byte();
    raw(tensor, low, 16);
    for (int i = 0; i < 32; ++i) {
      const int nibble = i < 16 ? low[i] & 15 : low[i - 16] >> 4;
      tensor.values.push_back(d * ((nibble | static_cast<int>(high >> i & 1) << 4) - 16));
    }
  }
  void put_q4_k(TinyTensor& tensor,
                double size) {  // d, dmin, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles
    const double d = scale(tensor, size / 170.0), dmin = scale(tensor, size / 23.0);
    uint8_t packed[12], low[128];
    for (uint8_t& b : packed) b = byte();
    for (uint8_t& b : low) b = byte();
    raw(tensor, packed, 12);
    raw(tensor, low, 128);
    for (int block = 0; block < 8; ++block) {
      const int j = block % 4;
      const int sc = block < 4 ? packed[j] & 63 : (packed[8 + j] & 15) | (packed[j] >> 6) << 4;
      const int m = block < 4 ? packed[4 + j] & 63 : packed[8 + j] >> 4 | (packed[4 + j] >> 6) << 4;
      for (int i = 0; i < 32; ++i) {
        const uint8_t b = low[block / 2 * 32 + i];
        tensor.values.push_back(d * sc * (block % 2 == 0 ? b & 15 : b >> 4) - dmin * m);
      }
    }
  }
  void put_q6_k(TinyTensor& tensor, double size) {  // 128 low nibbles, 64 bytes of high pairs, 16 int8 scales, d
    uint8_t low[128], high[64];
    int8_t scales[16];
    for (uint8_t& b : low) b = byte();
    for (uint8_t& b : high) b = byte();
    for (int8_t& s : scales) s = static_cast<int8_t>(byte());
    raw(tensor, low, 128);
    raw(tensor, high, 64);
    raw(tensor, scales, 16);
    const double d = scale(tensor, size / 1370.0);
    for (int i = 0; i < 256; ++i) {
      const int half = i / 128, quarter = i % 128 / 32, lane = i % 32;
      const uint8_t l = low[64 * half + 32 * (quarter % 2) + lane];
      const int q = (quarter < 2 ? l & 15 : l >> 4) | (high[32 * half + lane] >> (2 * quarter) & 3) << 4;
      tensor.values.push_back(d * scales[i / 16] * (q - 32));
    }
  }

  TinyConfig config_;
  std::mt19937 random_;
  std::map<std::string, TinyTensor> tensors_;
};

// 4 special tokens, 256 bytes, and normal pieces that merge into words.
inline void write_tiny_vocabulary(int64_t size, GgufWriter& writer) {
  std::vector<std::string> pieces = {"<pad>", "<eos>", "<bos>", "<unk>"};
  std::vector<int32_t> types = {3, 3, 3, 2};
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int i = 0; i < 256; ++i) {
    pieces.push_back(std::string("<0x") + kHex[i / 16] + kHex[i % 16] + '>');
    types.push_back(6);
  }
  for (const char* piece :
       {"\u2581", "t", "h", "e", "th", "the", "\u2581the", "a", "n", "d", "an", "and", "\u2581and"}) {
    pieces.emplace_back(piece);
    types.push_back(1);
  }
  while (static_cast<int64_t>(pieces.size()) < size) {
    pieces.push_back("w" + std::to_string(pieces.size()));
    types.push_back(1);
  }
  std::vector<float> scores;
  for (size_t i = 0; i < pieces.size(); ++i) scores.push_back(types[i] == 1 ? static_cast<float>(i) - 1000.0f : 0.0f);
  writer.str("tokenizer.ggml.model", "llama");
  writer.strs("tokenizer.ggml.tokens", pieces);
  writer.f32s("tokenizer.ggml.scores", scores);
  writer.i32s("tokenizer.ggml.token_type", types);
  writer.u32("tokenizer.ggml.bos_token_id", 2);
  writer.u32("tokenizer.ggml.eos_token_id", 1);
  writer.u32("tokenizer.ggml.unknown_token_id", 3);
}

inline GgufWriter TinyModel::writer() const {
  GgufWriter writer;
  const auto u32 = [&](const char* key, int64_t value) {
    writer.u32(std::string("gemma3.") + key, static_cast<uint32_t>(value));
  };
  writer.str("general.architecture", "gemma3");
  u32("block_count", config_.layers);
  u32("context_length", 32768);
  u32("embedding_length", config_.width);
  u32("feed_forward_length", config_.hidden);
  u32("attention.head_count", config_.heads);
  u32("attention.head_count_kv", config_.kv_heads);
  u32("attention.key_length", config_.head_dim);
  u32("attention.value_length", config_.head_dim);
  u32("attention.sliding_window", config_.window);
  u32("attention.sliding_window_pattern", config_.pattern);
  writer.f32("gemma3.attention.layer_norm_rms_epsilon", config_.epsilon);
  writer.f32("gemma3.rope.freq_base", static_cast<float>(config_.full_base));
  writer.f32("gemma3.rope.freq_base_swa", static_cast<float>(config_.sliding_base));
  if (config_.rope_factor != 1.0) {
    writer.str("gemma3.rope.scaling.type", "linear");
    writer.f32("gemma3.rope.scaling.factor", static_cast<float>(config_.rope_factor));
  }
  if (config_.attention_cap > 0) writer.f32("gemma3.attn_logit_softcapping", config_.attention_cap);
  if (config_.logit_cap > 0) writer.f32("gemma3.final_logit_softcapping", config_.logit_cap);
  write_tiny_vocabulary(config_.vocabulary, writer);
  for (const auto& [name, tensor] : tensors_) {
    std::vector<int64_t> shape = {tensor.inputs};
    if (tensor.outputs > 0) shape.push_back(tensor.outputs);
    writer.tensor(name, tensor.type, shape, tensor.bytes);
  }
  return writer;
}

}  // namespace kvass::testing
