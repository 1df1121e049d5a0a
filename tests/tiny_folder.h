// The tiny models as Hugging Face saves them: config.json, safetensors (one file or shards) and tokenizer.json, in a
// folder. Matrices are float32.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "text/byte_alphabet.h"
#include "tiny_model.h"

namespace kvass::testing {

struct FolderTensor {
  std::vector<int64_t> shape;  // outermost first
  std::vector<float> values;
};

// A .safetensors file of float32 tensors.
inline void write_safetensors(const std::string& path, const std::map<std::string, FolderTensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  size_t end = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = end;
    end += tensor.values.size() * sizeof(float);
    header[name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file << text;
  for (const auto& [name, tensor] : tensors) {
    file.write(reinterpret_cast<const char*>(tensor.values.data()),
               static_cast<std::streamsize>(tensor.values.size() * sizeof(float)));
  }
}

// A byte-level tokenizer.json with ChatML's marks: the vocabulary of write_tiny_byte_vocabulary.
inline nlohmann::json tiny_byte_tokenizer() {
  using nlohmann::json;
  json vocab = json::object(), added = json::array(), merges = json::array();
  int id = 0;
  for (const char* name : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    added.push_back({{"id", id++}, {"content", name}, {"special", true}, {"normalized", false}});
  }
  for (int byte = 0; byte < 256; ++byte) vocab[piece_of_bytes(std::string(1, static_cast<char>(byte)))] = id++;
  for (std::string merge : {"t h", "th e", "\u0120 the", "a n", "an d", "\u0120 and"}) {
    merges.push_back(merge);
    merge.erase(merge.find(' '), 1);
    vocab[merge] = id++;
  }
  const char* const pattern =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const json split = {
      {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  const json bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

class TinyFolder {
 public:
  explicit TinyFolder(const TinyConfig& config) : model_(config) {
    for (const auto& [from, to] :
         {std::pair("token_embd", "model.embed_tokens"), std::pair("output_norm", "model.norm")}) {
      put(from, std::string(to) + ".weight");
    }
    if (!config.tied) put("output", "lm_head.weight");
    for (int64_t i = 0; i < config.layers; ++i) add_layer(i);
  }

  const TinyModel& model() const { return model_; }
  std::map<std::string, FolderTensor>& tensors() { return tensors_; }
  nlohmann::json& tokenizer() { return tokenizer_; }
  nlohmann::json& tokenizer_config() { return tokenizer_config_; }
  nlohmann::json& config() { return config_; }

  void write(const std::string& folder, bool shards = false) const {
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/config.json") << config_;
    std::ofstream(folder + "/tokenizer.json") << tokenizer_;
    std::ofstream(folder + "/tokenizer_config.json") << tokenizer_config_;
    if (!shards) return write_safetensors(folder + "/model.safetensors", tensors_);
    std::map<std::string, FolderTensor> parts[2];
    nlohmann::json index = {{"metadata", {{"total_size", 0}}}};
    for (const auto& [name, tensor] : tensors_) {
      const size_t part = parts[0].size() < tensors_.size() / 2 ? 0 : 1;
      parts[part].emplace(name, tensor);
      index["weight_map"][name] = shard(part);
    }
    for (const size_t part : {0, 1}) write_safetensors(folder + "/" + shard(part), parts[part]);
    std::ofstream(folder + "/model.safetensors.index.json") << index;
  }
  static std::string shard(size_t part) { return "model-0000" + std::to_string(part + 1) + "-of-00002.safetensors"; }

 private:
  // GGUF's name and the folder's, in the order of the layer.
  void add_layer(int64_t layer) {
    const TinyConfig& config = model_.config();
    const std::string from = "blk." + std::to_string(layer) + ".", to = "model.layers." + std::to_string(layer) + ".";
    const auto both = [&](const char* gguf, const std::string& folder, int64_t heads = 0) {
      put(from + gguf, to + folder + ".weight", heads);
      if (const std::vector<double>* bias = model_.bias(from + gguf)) add(to + folder + ".bias", *bias, heads, false);
    };
    both("attn_q", "self_attn.q_proj", config.heads);
    both("attn_k", "self_attn.k_proj", config.kv_heads);
    both("attn_v", "self_attn.v_proj");
    both("attn_output", "self_attn.o_proj");
    both("ffn_gate", "mlp.gate_proj");
    both("ffn_up", "mlp.up_proj");
    both("ffn_down", "mlp.down_proj");
    put(from + "attn_norm", to + "input_layernorm.weight");
    if (config.head_norms()) {
      put(from + "attn_q_norm", to + "self_attn.q_norm.weight");
      put(from + "attn_k_norm", to + "self_attn.k_norm.weight");
    }
    const bool post = config.post_norms();
    put(from + "ffn_norm", to + (post ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight"));
    if (!post) return;
    put(from + "post_attention_norm", to + "post_attention_layernorm.weight");
    put(from + "post_ffw_norm", to + "post_feedforward_layernorm.weight");
  }

  void put(const std::string& from, const std::string& to, int64_t heads = 0) {
    add(to, model_.values(from), heads, to.find("norm") != std::string::npos);
  }
  void add(const std::string& name, const std::vector<double>& values, int64_t heads, bool norm) {
    const TinyConfig& config = model_.config();
    int64_t width = config.width;
    if (name.find("o_proj") != std::string::npos) width = config.heads * config.head_dim;
    if (name.find("down_proj") != std::string::npos) width = config.hidden;
    const bool matrix = !norm && name.ends_with("weight");
    FolderTensor& tensor = tensors_[name];
    const auto size = static_cast<int64_t>(values.size());
    tensor.shape = matrix ? std::vector<int64_t>{size / width, width} : std::vector<int64_t>{size};
    for (const double value : values)
      tensor.values.push_back(static_cast<float>(norm && config.gemma() ? value - 1.0 : value));
    if (heads == 0 || !config.neighbours()) return;
    // Rows of neighbours to rows of halves.
    const std::vector<float> from = tensor.values;
    const int64_t row = matrix ? width : 1, half = config.head_dim / 2;
    for (int64_t i = 0; i < size / row; ++i) {
      const int64_t within = i % config.head_dim, target = i - within + within / 2 + within % 2 * half;
      std::memcpy(&tensor.values[static_cast<size_t>(target * row)], &from[static_cast<size_t>(i * row)],
                  static_cast<size_t>(row) * sizeof(float));
    }
  }

  static nlohmann::json config_of(const TinyConfig& config) {
    const std::map<std::string, std::string> names = {{"llama", "LlamaForCausalLM"},
                                                      {"qwen2", "Qwen2ForCausalLM"},
                                                      {"qwen3", "Qwen3ForCausalLM"},
                                                      {"gemma3", "Gemma3ForCausalLM"}};
    nlohmann::json out = {{"architectures", {names.at(config.architecture)}},
                          {"hidden_size", config.width},
                          {"intermediate_size", config.hidden},
                          {"num_hidden_layers", config.layers},
                          {"num_attention_heads", config.heads},
                          {"num_key_value_heads", config.kv_heads},
                          {"head_dim", config.head_dim},
                          {"max_position_embeddings", 32768},
                          {"rms_norm_eps", config.epsilon},
                          {"rope_theta", config.full_base},
                          {"vocab_size", config.vocabulary},
                          {"tie_word_embeddings", config.tied},
                          {"attention_dropout", 0.1},
                          {"transformers_version", "5.0.0"}};
    if (config.gemma()) {
      out["sliding_window"] = config.window;
      out["sliding_window_pattern"] = config.pattern;
      out["rope_local_base_freq"] = config.sliding_base;
      out["query_pre_attn_scalar"] = config.head_dim;
    }
    if (config.biases && config.architecture == "llama") out["attention_bias"] = out["mlp_bias"] = true;
    return out;
  }

  TinyModel model_;
  std::map<std::string, FolderTensor> tensors_;
  nlohmann::json config_ = config_of(model_.config());
  nlohmann::json tokenizer_ = tiny_byte_tokenizer();
  nlohmann::json tokenizer_config_ = {
      {"eos_token", "<|im_end|>"}, {"bos_token", "<|endoftext|>"}, {"add_bos_token", false}};
};

}  // namespace kvass::testing
