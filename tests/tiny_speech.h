// A small random speech model in each format: a CTranslate2 folder (float32, or int8), a Hugging Face folder and a ggml
// file, all with the same numbers. Its transcripts are meaningless, but the same in every format.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "ct2_bytes.h"
#include "text/byte_alphabet.h"
#include "text/speech_tokenizer.h"

namespace kvass::testing {

class TinySpeech {
 public:
  static constexpr int64_t kMels = 16, kWidth = 64, kHidden = 256, kLayers = 2, kSource = 50, kContext = 64;

  TinySpeech() {
    vocabulary_ = complete_speech_vocabulary("tiny", bytes_as_text(), 256 + 1509 + 3).value().pieces;
    tensor("model.encoder.conv1.weight", {kWidth, kMels, 3}, 0.2);
    tensor("model.encoder.conv1.bias", {kWidth}, 0.1);
    tensor("model.encoder.conv2.weight", {kWidth, kWidth, 3}, 0.1);
    tensor("model.encoder.conv2.bias", {kWidth}, 0.1);
    tensor("model.encoder.embed_positions.weight", {kSource, kWidth}, 0.3);
    tensor("model.decoder.embed_tokens.weight", {static_cast<int64_t>(vocabulary_.size()), kWidth}, 0.5);
    tensor("model.decoder.embed_positions.weight", {kContext, kWidth}, 0.5);
    for (const std::string stack : {"encoder", "decoder"}) {
      for (int64_t i = 0; i < kLayers; ++i) {
        const std::string layer = "model." + stack + ".layers." + std::to_string(i) + ".";
        attention(layer + "self_attn");
        if (stack == "decoder") attention(layer + "encoder_attn");
        tensor(layer + "fc1.weight", {kHidden, kWidth}, 0.2);
        tensor(layer + "fc1.bias", {kHidden}, 0.1);
        tensor(layer + "fc2.weight", {kWidth, kHidden}, 0.1);
        tensor(layer + "fc2.bias", {kWidth}, 0.1);
        norm(layer + "final_layer_norm");
      }
      norm("model." + stack + ".layer_norm");
    }
  }

  void write_ct2(const std::string& folder, bool int8 = false) const {
    std::filesystem::create_directories(folder);
    Ct2Bytes file;
    file.variable("encoder/num_heads", {}, Ct2Type::i16, {1, 0})
        .variable("decoder/num_heads", {}, Ct2Type::i16, {1, 0});
    // Writes a variable: the values of `parts` one after the other. A fused projection has several parts.
    const auto put = [&](const std::string& name, std::vector<std::string> parts, bool quantised) {
      std::vector<float> values;
      std::vector<uint32_t> dims;
      for (const std::string& part : parts) {
        const Tensor& t = tensors_.contains(part) ? tensors_.at(part) : zeros_;
        values.insert(values.end(), t.values.begin(), t.values.end());
        if (dims.empty()) {
          dims.assign(t.shape.begin(), t.shape.end());
        } else {
          dims[0] += static_cast<uint32_t>(t.shape[0]);
        }
      }
      if (!int8 || !quantised) {
        file.values(name, dims, Ct2Type::f32, values);
        return;
      }
      const size_t row = values.size() / dims[0];
      std::vector<int8_t> bytes;
      std::vector<float> scales;
      for (size_t r = 0; r < dims[0]; ++r) {
        float most = 0.0f;
        for (size_t i = 0; i < row; ++i) most = std::max(most, std::abs(values[r * row + i]));
        scales.push_back(127.0f / most);
        for (size_t i = 0; i < row; ++i) {
          bytes.push_back(static_cast<int8_t>(std::nearbyint(values[r * row + i] * scales.back())));
        }
      }
      file.values(name, dims, Ct2Type::i8, bytes).values(name + "_scale", {dims[0]}, Ct2Type::f32, scales);
    };
    const auto pair = [&](const std::string& to, const std::string& from) {
      put(to + "/weight", {from + ".weight"}, true);
      put(to + "/bias", {from + ".bias"}, false);
    };
    const auto norms = [&](const std::string& to, const std::string& from) {
      put(to + "/gamma", {from + ".weight"}, false);
      put(to + "/beta", {from + ".bias"}, false);
    };
    pair("encoder/conv1", "model.encoder.conv1");
    pair("encoder/conv2", "model.encoder.conv2");
    put("decoder/embeddings/weight", {"model.decoder.embed_tokens.weight"}, true);
    for (const std::string stack : {"encoder", "decoder"}) {
      put(stack + "/position_encodings/encodings", {"model." + stack + ".embed_positions.weight"}, false);
      norms(stack + "/layer_norm", "model." + stack + ".layer_norm");
      for (int64_t i = 0; i < kLayers; ++i) {
        const std::string to = stack + "/layer_" + std::to_string(i),
                          from = "model." + stack + ".layers." + std::to_string(i);
        const auto fused = [&](const std::string& name, const std::string& attention, const std::string& parts) {
          for (const char* leaf : {"weight", "bias"}) {
            std::vector<std::string> names;
            for (char p : parts) names.push_back(from + "." + attention + "." + p + "_proj." + leaf);
            put(to + "/" + name + "/" + leaf, names, leaf[0] == 'w');
          }
        };
        fused("self_attention/linear_0", "self_attn", "qkv");
        pair(to + "/self_attention/linear_1", from + ".self_attn.out_proj");
        norms(to + "/self_attention/layer_norm", from + ".self_attn_layer_norm");
        if (stack == "decoder") {
          fused("attention/linear_0", "encoder_attn", "q");
          fused("attention/linear_1", "encoder_attn", "kv");
          pair(to + "/attention/linear_2", from + ".encoder_attn.out_proj");
          norms(to + "/attention/layer_norm", from + ".encoder_attn_layer_norm");
        }
        pair(to + "/ffn/linear_0", from + ".fc1");
        pair(to + "/ffn/linear_1", from + ".fc2");
        norms(to + "/ffn/layer_norm", from + ".final_layer_norm");
      }
    }
    file.alias("decoder/projection/weight", "decoder/embeddings/weight");
    const std::vector<uint8_t> bytes = file.bytes();
    write(folder + "/model.bin", bytes);
    nlohmann::json pieces;
    for (size_t id = 0; id < vocabulary_.size(); ++id)
      pieces.push_back(id < 256 ? piece_of_bytes(vocabulary_[id]) : vocabulary_[id]);
    std::ofstream(folder + "/vocabulary.json") << pieces.dump();
    std::ofstream(folder + "/config.json") << R"({"alignment_heads": [[1, 0]]})";
  }

  void write_hugging_face(const std::string& folder) const {
    std::filesystem::create_directories(folder);
    nlohmann::json header;
    std::vector<uint8_t> data;
    for (const auto& [name, tensor] : tensors_) {
      const size_t begin = data.size();
      append(data, tensor.values);
      header[name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
    }
    const std::string text = header.dump();
    std::vector<uint8_t> file;
    append(file, std::vector<uint64_t>{text.size()});
    file.insert(file.end(), text.begin(), text.end());
    file.insert(file.end(), data.begin(), data.end());
    write(folder + "/model.safetensors", file);
    nlohmann::json vocab, added = nlohmann::json::array();
    for (size_t id = 0; id < vocabulary_.size(); ++id) {
      if (id < 256) {
        vocab[piece_of_bytes(vocabulary_[id])] = id;
      } else {
        added.push_back({{"id", id}, {"content", vocabulary_[id]}});
      }
    }
    std::ofstream(folder + "/tokenizer.json") << nlohmann::json{{"model", {{"vocab", vocab}}}, {"added_tokens", added}};
    std::ofstream(folder + "/config.json") << R"({"encoder_attention_heads": 1})";
    std::ofstream(folder + "/generation_config.json") << R"({"alignment_heads": [[1, 0]]})";
  }

  void write_ggml(const std::string& path) const {
    std::vector<uint8_t> file;
    const auto vocabulary = static_cast<int32_t>(vocabulary_.size());
    append(file, std::vector<uint32_t>{0x67676d6c});
    append(file, std::vector<int32_t>{vocabulary, kSource, kWidth, 1, kLayers, kContext, kWidth, 1, kLayers, kMels, 0});
    append(file, std::vector<int32_t>{1, 1});
    append(file, std::vector<float>{0.0f});
    append(file, std::vector<int32_t>{256});
    for (size_t id = 0; id < 256; ++id) {
      append(file, std::vector<uint32_t>{1});
      file.push_back(static_cast<uint8_t>(vocabulary_[id][0]));
    }
    for (const auto& [name, tensor] : tensors_) {
      const std::string own = ggml_name(name);
      std::vector<int32_t> sizes(tensor.shape.rbegin(), tensor.shape.rend());
      if (name.find("conv") != std::string::npos && sizes.size() == 1) sizes.insert(sizes.begin(), 1);
      append(file, std::vector<int32_t>{static_cast<int32_t>(sizes.size()), static_cast<int32_t>(own.size()), 0});
      append(file, sizes);
      file.insert(file.end(), own.begin(), own.end());
      append(file, tensor.values);
    }
    write(path, file);
  }

 private:
  struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  static std::vector<std::string> bytes_as_text() {
    std::vector<std::string> pieces;
    for (int byte = 0; byte < 256; ++byte) pieces.push_back(std::string(1, static_cast<char>(byte)));
    return pieces;
  }
  void tensor(const std::string& name, std::vector<int64_t> shape, double size, double around = 0.0) {
    Tensor& tensor = tensors_[name];
    int64_t count = 1;
    for (int64_t dim : shape) count *= dim;
    tensor.shape = std::move(shape);
    for (int64_t i = 0; i < count; ++i) {
      tensor.values.push_back(static_cast<float>(around + size * (static_cast<double>(random_()) * 0x1p-31 - 1.0)));
    }
  }
  void norm(const std::string& name) {
    tensor(name + ".weight", {kWidth}, 0.2, 1.0);
    tensor(name + ".bias", {kWidth}, 0.1);
  }
  void attention(const std::string& name) {
    for (const char* part : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      tensor(name + "." + part + ".weight", {kWidth, kWidth}, 0.25);
      if (part[0] != 'k') tensor(name + "." + part + ".bias", {kWidth}, 0.1);
    }
    norm(name + "_layer_norm");
  }
  static std::string ggml_name(std::string name) {
    const std::pair<const char*, const char*> changes[] = {{"model.", ""},
                                                           {".layers.", ".blocks."},
                                                           {"encoder_attn_layer_norm", "cross_attn_ln"},
                                                           {"self_attn_layer_norm", "attn_ln"},
                                                           {"final_layer_norm", "mlp_ln"},
                                                           {"encoder_attn.", "cross_attn."},
                                                           {"self_attn.", "attn."},
                                                           {"q_proj", "query"},
                                                           {"k_proj", "key"},
                                                           {"v_proj", "value"},
                                                           {"out_proj", "out"},
                                                           {"fc1", "mlp.0"},
                                                           {"fc2", "mlp.2"},
                                                           {"embed_tokens", "token_embedding"},
                                                           {"embed_positions.weight", "positional_embedding"},
                                                           {"encoder.layer_norm", "encoder.ln_post"},
                                                           {"decoder.layer_norm", "decoder.ln"}};
    for (const auto& [from, to] : changes) {
      if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, std::string(from).size(), to);
    }
    return name;
  }
  template <class T>
  static void append(std::vector<uint8_t>& out, const std::vector<T>& values) {
    const auto* const begin = reinterpret_cast<const uint8_t*>(values.data());
    out.insert(out.end(), begin, begin + values.size() * sizeof(T));
  }
  static void write(const std::string& path, const std::vector<uint8_t>& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }

  std::mt19937 random_{7};
  std::map<std::string, Tensor> tensors_;                     // keys: names of Hugging Face
  Tensor zeros_{{kWidth}, std::vector<float>(kWidth, 0.0f)};  // biases of keys
  std::vector<std::string> vocabulary_;
};

}  // namespace kvass::testing
