// Folders of Hugging Face: the same tensors and metadata as the GGUF file of the same model, and what is refused.
#include "app/model_folder.h"

#include <gtest/gtest.h>

#include <fstream>

#include "app/diff.h"
#include "app/model_file.h"
#include "model/model.h"
#include "model/rows.h"
#include "scratch.h"
#include "tiny_folder.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

TinyConfig config_of(const std::string& architecture) {
  TinyConfig config = architecture == "gemma3" ? TinyConfig() : tiny_llama(architecture);
  config.tied = architecture != "qwen2";
  config.biases = architecture == "llama";
  return config;
}

std::vector<float> numbers_of(const Gguf& file, const std::string& name) {
  const GgufTensor& tensor = *file.tensor(name).value();
  std::vector<float> out(static_cast<size_t>(tensor.shape[0] * tensor.rows()));
  unpack_rows(tensor, 0, tensor.rows(), out.data());
  return out;
}

void expect_the_model(const Gguf& folder, const TinyModel& model) {
  const std::vector<uint8_t> bytes = model.gguf();
  const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
  EXPECT_EQ(folder.tensors().size(), file.tensors().size());
  for (const GgufTensor& tensor : file.tensors()) {
    ASSERT_TRUE(folder.find_tensor(tensor.name)) << tensor.name;
    EXPECT_EQ(folder.find_tensor(tensor.name)->shape, tensor.shape) << tensor.name;
    const std::vector<float> got = numbers_of(folder, tensor.name), want = numbers_of(file, tensor.name);
    const bool norm = model.config().gemma() && tensor.name.find("norm") != std::string::npos;  // 1 less in the folder
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], norm ? 3e-7f : 0.0f) << tensor.name << i;
  }
  EXPECT_EQ(build_program(folder)->program.ops.size(), build_program(file)->program.ops.size());
}

TEST(ModelFolder, HasTheTensorsOfTheGgufFile) {
  const Scratch scratch;
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gemma3"}) {
    SCOPED_TRACE(architecture);
    const TinyFolder tiny(config_of(architecture));
    for (const bool shards : {false, true}) {
      const std::string path = scratch.file(std::string(architecture) + (shards ? "-shards" : ""));
      tiny.write(path, shards);
      const Result<Gguf> folder = open_model_folder(path);
      ASSERT_TRUE(folder.ok()) << folder.status().message();
      EXPECT_EQ(folder->get_string("general.architecture").value(), architecture);
      expect_the_model(folder.value(), tiny.model());
      const Result<ModelFile> file = ModelFile::open(path);
      ASSERT_TRUE(file.ok()) << file.status().message();
      EXPECT_TRUE(file->tokenizer().ok()) << file->tokenizer().status().message();
      EXPECT_EQ(file->trained_context(), 32768);
    }
  }
}

TEST(ModelFolder, TakesTheTextPartOfAModelWithImages) {
  const Scratch scratch;
  TinyFolder tiny(config_of("gemma3"));
  nlohmann::json text = tiny.config();
  text.erase("architectures");
  tiny.config() = {{"architectures", {"Gemma3ForConditionalGeneration"}},
                   {"text_config", text},
                   {"vision_config", {{"hidden_size", 4}}}};
  std::map<std::string, FolderTensor> tensors;
  for (const auto& [name, tensor] : tiny.tensors()) tensors["language_model." + name] = tensor;
  tensors["vision_tower.x.weight"] = tensors["multi_modal_projector.y"] = {{2}, {1.0f, 2.0f}};
  tiny.tensors() = tensors;
  tiny.write(scratch.file("a"));
  Result<Gguf> folder = open_model_folder(scratch.file("a"));
  ASSERT_TRUE(folder.ok()) << folder.status().message();
  expect_the_model(folder.value(), tiny.model());
}

TEST(ModelFolder, ScalesTheQueriesThroughTheirNorm) {
  const Scratch scratch;
  TinyFolder tiny(config_of("gemma3"));
  tiny.write(scratch.file("a"));
  tiny.config()["query_pre_attn_scalar"] = 4 * tiny.model().config().head_dim;
  tiny.write(scratch.file("b"));
  const Gguf a = open_model_folder(scratch.file("a")).value(), b = open_model_folder(scratch.file("b")).value();
  const std::vector<float> whole = numbers_of(a, "blk.0.attn_q_norm.weight"),
                           half = numbers_of(b, "blk.0.attn_q_norm.weight");
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(half[i], whole[i] / 2);
  EXPECT_EQ(numbers_of(a, "blk.0.attn_k_norm.weight"), numbers_of(b, "blk.0.attn_k_norm.weight"));
}

TEST(ModelFolder, ReadsEveryFormOfTheRotaryEmbedding) {
  using nlohmann::json;
  const Scratch scratch;
  const auto rotary = [&](const std::string& architecture, const json& change) {
    TinyFolder tiny(config_of(architecture));
    tiny.config().update(change);
    tiny.write(scratch.file("r"));
    const Result<Gguf> folder = open_model_folder(scratch.file("r"));
    EXPECT_TRUE(folder.ok()) << folder.status().message();
    const ModelProgram model = build_program(folder.value()).value();
    return model.program.rotaries;
  };
  const json linear = {{"rope_type", "linear"}, {"factor", 8.0}};
  EXPECT_EQ(rotary("llama", {{"rope_scaling", linear}})[0].factor, 8.0);
  EXPECT_EQ(rotary("llama", {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 5e5}}},
                             {"rope_theta", nullptr}})[0]
                .base,
            5e5);
  const auto yarn = rotary(
      "qwen3",
      {{"rope_scaling",
        {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8192}, {"attention_factor", 1.0}}}});
  EXPECT_EQ(yarn[0].yarn.context, 8192.0);
  EXPECT_NEAR(yarn[0].attention_factor * (0.1 * std::log(4.0) + 1.0), 1.0, 1e-6);
  const auto waves = rotary("llama", {{"rope_scaling",
                                       {{"rope_type", "llama3"},
                                        {"factor", 8.0},
                                        {"low_freq_factor", 1.0},
                                        {"high_freq_factor", 4.0},
                                        {"original_max_position_embeddings", 64}}}});
  ASSERT_EQ(waves[0].divisors.size(), 8u);
  EXPECT_EQ(waves[0].divisors.front(), 1.0f);
  EXPECT_EQ(waves[0].divisors.back(), 8.0f);
  const auto layers =
      rotary("gemma3", {{"rope_parameters",
                         {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 2e6}}},
                          {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e4}}}}}});
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[0].base, 2e4);
  EXPECT_EQ(layers[1].base, 2e6);
  EXPECT_EQ(layers[1].factor, 8.0);
  EXPECT_EQ(layers[0].factor, 1.0);
}

// The message for a folder that was changed after it was written.
std::string refusal(const std::function<void(const std::string& folder)>& damage, bool shards = false) {
  const Scratch scratch;
  TinyFolder(config_of("llama")).write(scratch.file("model"), shards);
  damage(scratch.file("model"));
  const Result<ModelFile> file = ModelFile::open(scratch.file("model"));
  const Status status = file.ok() ? file->tokenizer().status() : file.status();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
  return status.message();
}

void expect_words(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    EXPECT_NE(message.find(word), std::string::npos) << message << " lacks " << word;
}

void change(const std::string& path, const std::function<void(nlohmann::json&)>& edit) {
  nlohmann::json json = nlohmann::json::parse(std::ifstream(path));
  edit(json);
  std::ofstream(path) << json;
}

TEST(ModelFolder, RefusesShardsThatDoNotAgree) {
  const std::string index = "model.safetensors.index.json", lm = "model.norm.weight";
  expect_words(refusal([](const std::string& f) { std::filesystem::remove(f + "/" + TinyFolder::shard(1)); }, true),
               {index, TinyFolder::shard(1)});
  expect_words(refusal(
                   [&](const std::string& f) {
                     change(f + "/" + index, [](auto& json) { json["weight_map"]["more"] = TinyFolder::shard(0); });
                   },
                   true),
               {index, "'more'", TinyFolder::shard(0)});
  expect_words(
      refusal([&](const std::string& f) { change(f + "/" + index, [&](auto& json) { json["weight_map"].erase(lm); }); },
              true),
      {lm, "no entry in", index});
  expect_words(refusal(
                   [&](const std::string& f) {
                     change(f + "/" + index, [&](auto& json) { json["weight_map"][lm] = "../elsewhere"; });
                   },
                   true),
               {index, lm, "the name of a file"});
  expect_words(refusal([&](const std::string& f) { std::ofstream(f + "/" + index) << "[1]"; }, true),
               {index, "a JSON object"});
  expect_words(refusal([](const std::string& f) { std::filesystem::remove(f + "/model.safetensors"); }),
               {"model.safetensors", "neither"});
}

TEST(ModelFolder, RefusesWhatItsFilesCannotMean) {
  const auto config = [](const std::function<void(nlohmann::json&)>& edit) {
    return refusal([&](const std::string& f) { change(f + "/config.json", edit); });
  };
  expect_words(config([](auto& json) { json.erase("architectures"); }),
               {"config.json: architectures", "LlamaForCausalLM", "none"});
  expect_words(config([](auto& json) { json["architectures"] = {"Mamba2ForCausalLM"}; }),
               {"config.json: architectures", "Mamba2ForCausalLM"});
  expect_words(config([](auto& json) { json["num_attention_heads"] = -1; }),
               {"config.json: num_attention_heads", "-1"});
  expect_words(config([](auto& json) {
                 json["quantization_config"] = {{"quant_method", "awq"}};
               }),
               {"config.json: quantization_config", "awq"});
  expect_words(config([](auto& json) {
                 json["rope_scaling"] = {{"rope_type", "longrope"}};
               }),
               {"config.json: rope_scaling.rope_type", "longrope"});
  expect_words(config([](auto& json) { json["partial_rotary_factor"] = 0.5; }),
               {"config.json: partial_rotary_factor", "0.5"});
  expect_words(config([](auto& json) { json["sliding_window"] = 4; }), {"config.json: sliding_window", "4"});
  expect_words(config([](auto& json) { json["mlp_bias"] = false; }), {"mlp.down_proj.bias", "no such tensor"});
  expect_words(refusal([](const std::string& f) { std::ofstream(f + "/config.json") << std::string(100000, '['); }),
               {"config.json", "a JSON object"});
  expect_words(refusal([](const std::string& f) { std::filesystem::remove(f + "/config.json"); }), {"config.json"});
  expect_words(refusal([](const std::string& f) { std::filesystem::remove(f + "/tokenizer.json"); }),
               {"tokenizer.json", "none"});
  const auto header = [](const std::string& text) {
    return refusal([&](const std::string& f) {
      const uint64_t length = text.size();
      std::ofstream file(f + "/model.safetensors", std::ios::binary);
      file.write(reinterpret_cast<const char*>(&length), sizeof length) << text << std::string(64, '\0');
    });
  };
  expect_words(header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[60,68]}})"),
               {"model.safetensors", "'a' data_offsets"});
  expect_words(
      header(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})"),
      {"model.safetensors", "'b' data_offsets", "'a'"});
  expect_words(header(R"({"model.embed_tokens.weight":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[0,4]}})"),
               {"model.safetensors", "dtype", "F8_E4M3"});
  expect_words(header(R"({"model.embed_tokens.weight":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})"),
               {"shape", "a matrix", "[4]"});
}

TEST(ModelDiff, NamesWhatDiffers) {
  const Scratch scratch;
  TinyFolder tiny(config_of("qwen3"));
  tiny.write(scratch.file("a"));
  EXPECT_TRUE(compare_models(scratch.file("a"), scratch.file("a"))->none());
  tiny.config()["rope_theta"] = 5e5;
  tiny.tensors()["model.layers.1.mlp.up_proj.weight"].values[70] += 0.25f;
  tiny.tensors()["model.norm.weight"].values[3] = std::nanf("");
  std::filesystem::create_directory(scratch.file("other"));
  tiny.write(scratch.file("other/a"));
  const Result<ModelDifference> found = compare_models(scratch.file("a"), scratch.file("other/a"));
  ASSERT_TRUE(found.ok()) << found.status().message();
  ASSERT_EQ(found->metadata.size(), 1u);
  EXPECT_EQ(found->metadata[0].key, "qwen3.rope.freq_base");
  EXPECT_EQ(found->metadata[0].b, "5e+05");
  ASSERT_EQ(found->tensors.size(), 2u);
  EXPECT_EQ(found->tensors[0].name, "blk.1.ffn_up.weight");
  EXPECT_NEAR(found->tensors[0].largest, 0.25, 1e-6);
  EXPECT_EQ(found->tensors[0].place, (std::vector<int64_t>{1, 6}));  // 64 in a row
  EXPECT_EQ(found->tensors[1].name, "output_norm.weight");
  EXPECT_TRUE(std::isinf(found->tensors[1].largest));
}

}  // namespace
}  // namespace kvass
