// A small random model: a GGUF file made in memory, and its weights as doubles, decoded from the same bytes. It runs in
// milliseconds and has the features of big models: sliding and full layers, grouped queries, several weight types, a
// tied head whose number of rows is not a multiple of a panel, rings that wrap after a few tokens.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "file/gguf_writer.h"
#include "tiny_config.h"
#include "tiny_tensors.h"
#include "tiny_vocabulary.h"

namespace kvass::testing {

class TinyModel {
 public:
  explicit TinyModel(const TinyConfig& config = {}) : config_(config), random_(config.seed) {
    matrix("token_embd", GgmlType::Q8_0, config.vocabulary, config.width, 0.05);
    vector("output_norm", config.width, 1.0);
    if (!config.tied) matrix("output", GgmlType::F16, config.vocabulary, config.width, 0.05);
    for (int64_t layer = 0; layer < config.layers; ++layer) add_layer(layer);
    if (!config.divisors.empty()) {
      tensors_["rope_freqs.weight"] = TinyTensors::of(config.divisors);
    }
  }

  const TinyConfig& config() const { return config_; }
  // The numbers of tensor `name`.weight, or of `name`.bias, which is empty if the model has no such tensor.
  const std::vector<double>& values(const std::string& name) const { return tensors_.at(name + ".weight").values; }
  const std::vector<double>* bias(const std::string& name) const {
    const auto found = tensors_.find(name + ".bias");
    return found == tensors_.end() ? nullptr : &found->second.values;
  }

  // The same with a chat template: a model that one can talk with.
  GgufWriter talker() const {
    GgufWriter talker = writer();
    talker.str(
        "tokenizer.chat_template",
        "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + "
        "'<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}");
    return talker;
  }

  // A writer that has the whole file. Tests that damage a file change the writer before they take the bytes.
  GgufWriter writer() const;
  std::vector<uint8_t> gguf() const { return writer().finish(); }

  // Random token ids.
  std::vector<int32_t> tokens(size_t count, uint32_t seed = 7) const {
    std::mt19937 random(seed);
    std::vector<int32_t> ids = {2};
    while (ids.size() < count)
      ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(config_.vocabulary)));
    ids.resize(count);
    return ids;
  }

 private:
  void add_layer(int64_t layer) {
    const TinyConfig& config = config_;
    const int64_t q_width = config.heads * config.head_dim, kv_width = config.kv_heads * config.head_dim;
    const GgmlType cycle[] = {GgmlType::Q5_0, GgmlType::Q8_0, GgmlType::F16, GgmlType::F32, GgmlType::BF16};
    const GgmlType super[] = {GgmlType::Q4_K, GgmlType::Q6_K, GgmlType::Q8_0};  // rows of 256
    const auto name = [&](const char* part) { return "blk." + std::to_string(layer) + "." + part; };
    const auto type = [&](int64_t i) { return cycle[(layer + i) % 5]; };
    const double in = 1.0 / std::sqrt(static_cast<double>(config.width));
    vector(name("attn_norm"), config.width, 1.0);
    matrix(name("attn_q"), type(0), q_width, config.width, in);
    matrix(name("attn_k"), type(1), kv_width, config.width, in);
    matrix(name("attn_v"), type(2), kv_width, config.width, in);
    if (config.qkv_biases()) {
      add_bias(name("attn_q"), q_width);
      add_bias(name("attn_k"), kv_width);
      add_bias(name("attn_v"), kv_width);
    }
    if (config.head_norms()) {
      vector(name("attn_q_norm"), config.head_dim, 1.6);
      vector(name("attn_k_norm"), config.head_dim, 1.6);
    }
    matrix(name("attn_output"), type(3), config.width, q_width, in);
    if (config.post_norms()) vector(name("post_attention_norm"), config.width, 1.0);
    vector(name("ffn_norm"), config.width, 1.0);
    matrix(name("ffn_gate"), type(4), config.hidden, config.width, in);
    matrix(name("ffn_up"), type(0), config.hidden, config.width, in);
    matrix(name("ffn_down"), super[layer % 3], config.width, config.hidden, 0.06);
    if (config.post_norms()) vector(name("post_ffw_norm"), config.width, 1.0);
    if (config.biases) {
      add_bias(name("attn_output"), config.width);
      add_bias(name("ffn_gate"), config.hidden);
      add_bias(name("ffn_up"), config.hidden);
      add_bias(name("ffn_down"), config.width);
    }
  }

  void vector(const std::string& name, int64_t width, double around) {
    tensors_[name + ".weight"] = random_.vector(width, around, around);
  }
  void add_bias(const std::string& name, int64_t width) { tensors_[name + ".bias"] = random_.vector(width, 0.0, 1.5); }
  void matrix(const std::string& name, GgmlType type, int64_t outputs, int64_t inputs, double size) {
    if (!config_.weights.empty()) type = config_.weights[matrices_++ % config_.weights.size()];
    TinyTensor& tensor = tensors_[name + ".weight"] = random_.matrix(type, outputs, inputs, size);
    if (config_.floats) tensor = TinyTensors::as_floats(tensor);
  }

  TinyConfig config_;
  TinyTensors random_;
  size_t matrices_ = 0;
  std::map<std::string, TinyTensor> tensors_;  // keys: names in the file
};

inline GgufWriter TinyModel::writer() const {
  GgufWriter writer;
  const auto key = [&](const char* name) { return config_.architecture + "." + name; };
  const auto u32 = [&](const char* name, int64_t value) { writer.u32(key(name), static_cast<uint32_t>(value)); };
  const auto f32 = [&](const char* name, double value) { writer.f32(key(name), static_cast<float>(value)); };
  writer.str("general.architecture", config_.architecture);
  u32("block_count", config_.layers);
  u32("context_length", 32768);
  u32("embedding_length", config_.width);
  u32("feed_forward_length", config_.hidden);
  u32("attention.head_count", config_.heads);
  u32("attention.head_count_kv", config_.kv_heads);
  u32("attention.key_length", config_.head_dim);
  u32("attention.value_length", config_.head_dim);
  if (config_.gemma() || config_.window != 0) u32("attention.sliding_window", config_.window);
  f32("attention.layer_norm_rms_epsilon", static_cast<double>(config_.epsilon));
  f32("rope.freq_base", config_.full_base);
  if (config_.gemma()) {
    if (config_.pattern != 0) u32("attention.sliding_window_pattern", config_.pattern);
    f32("rope.freq_base_swa", config_.sliding_base);
  }
  if (config_.rope_factor != 1.0 || config_.yarn.context != 0) {
    writer.str(key("rope.scaling.type"), config_.yarn.context != 0 ? "yarn" : "linear");
    f32("rope.scaling.factor", config_.rope_factor);
  }
  if (config_.attention_factor != 1.0) f32("rope.scaling.attn_factor", config_.attention_factor);
  if (config_.yarn.context != 0) {
    u32("rope.scaling.original_context_length", config_.yarn.context);
    f32("rope.scaling.yarn_beta_fast", config_.yarn.beta_fast);
    f32("rope.scaling.yarn_beta_slow", config_.yarn.beta_slow);
  }
  if (config_.attention_cap > 0) f32("attn_logit_softcapping", static_cast<double>(config_.attention_cap));
  if (config_.logit_cap > 0) f32("final_logit_softcapping", static_cast<double>(config_.logit_cap));
  (config_.byte_level ? write_tiny_byte_vocabulary : write_tiny_vocabulary)(config_.vocabulary, writer);
  for (const auto& [name, tensor] : tensors_) {
    std::vector<int64_t> shape = {tensor.inputs};
    if (tensor.outputs > 0) shape.push_back(tensor.outputs);
    writer.tensor(name, tensor.type, shape, tensor.bytes);
  }
  return writer;
}

}  // namespace kvass::testing
