// The llama family: the program that each architecture's metadata gives, and the files that are refused.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <span>

#include "base/float16.h"
#include "damage.h"
#include "model/family.h"
#include "model/model.h"
#include "program/greedy.h"
#include "program/op_spec.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using Extra = std::function<void(GgufWriter&)>;

Result<ModelProgram> build(const std::vector<uint8_t>& bytes) {
  const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
  return build_program(file);
}

// The file of `config` with `extra` added.
std::vector<uint8_t> file_with(const TinyConfig& config, const Extra& extra) {
  GgufWriter writer = TinyModel(config).writer();
  extra(writer);
  return writer.finish();
}

ModelProgram program_of(
    const TinyConfig& config, const Extra& extra = [](GgufWriter&) {}) {
  Result<ModelProgram> model = build(file_with(config, extra));
  EXPECT_TRUE(model.ok()) << model.status().message();
  if (!model.ok()) return {};
  EXPECT_EQ(verify_program(model->program).message(), "");
  return std::move(model).value();
}

std::string refusal(const std::vector<uint8_t>& bytes) {
  const Result<EnginePtr> engine = try_engine(bytes, Math::f32, Isa::scalar);
  return engine.ok() ? "" : engine.status().message();
}

std::string refusal(const TinyConfig& config, const Extra& extra) { return refusal(file_with(config, extra)); }

int count(const Program& program, OpKind kind) {
  int ops = 0;
  for (const Op& op : program.ops) ops += op.kind == kind ? 1 : 0;
  return ops;
}

TEST(LlamaFamily, EachArchitectureHasItsOwnLayer) {
  struct Expected {
    const char* architecture;
    bool neighbours;
    int biases, norms;  // of a layer
  };
  for (const auto& [architecture, neighbours, biases, norms] :
       {Expected{"llama", true, 0, 2}, {"qwen2", false, 3, 2}, {"qwen3", false, 0, 4}}) {
    SCOPED_TRACE(architecture);
    const ModelProgram model = program_of(tiny_llama(architecture));
    const Program program = without_greedy(model.program);
    EXPECT_EQ(model.family, architecture);
    EXPECT_EQ(model.trained_context, 32768);
    EXPECT_EQ(program.vocabulary(), 300);
    EXPECT_EQ(count(program, op_kind("bias")), 3 * biases);
    EXPECT_EQ(count(program, op_kind("rms_norm")), 3 * norms + 1);
    EXPECT_EQ(count(program, op_kind("silu_gate")), 3);
    EXPECT_EQ(count(program, op_kind("gelu_gate")), 0);
    EXPECT_EQ(count(program, op_kind("softcap")), 0);
    ASSERT_EQ(program.states.size(), 3u);
    for (const CacheState& state : program.states) EXPECT_EQ(state.window, 0);
    ASSERT_EQ(program.rotaries.size(), 1u);
    EXPECT_EQ(program.rotaries[0], (RotaryParams{16, 10000.0, 1.0, neighbours}));
    for (const Op& op : program.ops) {
      if (op.kind == op_kind("attention")) {
        EXPECT_EQ(op.scale, 0.25f);  // 1 / sqrt(16)
      }
      if (op.kind == op_kind("embed")) {
        EXPECT_EQ(op.scale, 1.0f);
      }
    }
  }
}

TEST(LlamaFamily, AWindowIsEveryLayers) {
  TinyConfig config = tiny_llama();
  config.window = 24;
  for (const CacheState& state : program_of(config).program.states) EXPECT_EQ(state.window, 24);
}

TEST(LlamaFamily, TheHeadIsItsOwnOrTheTable) {
  TinyConfig config = tiny_llama();
  const auto head = [](const Program& program) { return program.ops.back().weights[0]; };
  const ModelProgram tied = program_of(config);
  EXPECT_EQ(tied.tensors[static_cast<size_t>(head(tied.program))], "token_embd.weight");
  config.tied = false;
  const ModelProgram untied = program_of(config);
  EXPECT_EQ(untied.tensors[static_cast<size_t>(head(untied.program))], "output.weight");
}

RotaryParams rotary_of(
    const TinyConfig& config, const Extra& extra = [](GgufWriter&) {}) {
  const ModelProgram model = program_of(config, extra);
  return model.program.rotaries.empty() ? RotaryParams{} : model.program.rotaries[0];
}

TEST(LlamaFamily, RotaryScalingIsWhatTheMetadataSay) {
  TinyConfig config = tiny_llama("qwen2");
  EXPECT_EQ(rotary_of(config, [](GgufWriter& w) { w.f32("qwen2.rope.scale_linear", 2.0f); }).factor, 2.0);
  EXPECT_EQ(rotary_of(config, [](GgufWriter& w) { w.f32("qwen2.rope.scaling.factor", 3.0f); }).factor, 3.0);
  EXPECT_EQ(rotary_of(config,
                      [](GgufWriter& w) {
                        w.str("qwen2.rope.scaling.type", "none");
                        w.f32("qwen2.rope.scaling.factor", 3.0f);
                      }),
            (RotaryParams{16, 10000.0}));

  const Extra yarn = [](GgufWriter& w) {
    w.str("qwen2.rope.scaling.type", "yarn");
    w.f32("qwen2.rope.scaling.factor", 4.0f);
    w.f32("qwen2.rope.scaling.attn_factor", 0.5f);
  };
  const RotaryParams defaults{16, 10000.0, 4.0, false, {}, 0.5, {32768.0, 32.0, 1.0, 1.0}};
  EXPECT_EQ(rotary_of(config, yarn), defaults);
  EXPECT_EQ(rotary_of(config,
                      [&](GgufWriter& w) {
                        yarn(w);
                        w.f32("qwen2.rope.scaling.yarn_ext_factor", -1.0f);
                      }),
            defaults);
  EXPECT_EQ(rotary_of(config,
                      [&](GgufWriter& w) {
                        yarn(w);
                        w.f32("qwen2.rope.scaling.yarn_ext_factor", 0.0f);
                      }),
            (RotaryParams{16, 10000.0, 4.0, false, {}, 0.5}));
  EXPECT_EQ(rotary_of(config,
                      [&](GgufWriter& w) {
                        yarn(w);
                        w.u32("qwen2.rope.scaling.original_context_length", 4096);
                        w.f32("qwen2.rope.scaling.yarn_ext_factor", 0.5f);
                        w.f32("qwen2.rope.scaling.yarn_attn_factor", 0.5f);
                        w.f32("qwen2.rope.scaling.yarn_beta_fast", 24.0f);
                        w.f32("qwen2.rope.scaling.yarn_beta_slow", 2.0f);
                      }),
            (RotaryParams{16, 10000.0, 4.0, false, {}, 0.25, {4096.0, 24.0, 2.0, 0.5}}));
  config.divisors = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(rotary_of(config).divisors, config.divisors);
}

TEST(LlamaFamily, MissingKeysHaveTheFormatsDefaults) {
  TinyConfig config = tiny_llama();
  config.kv_heads = 4;
  std::vector<uint8_t> bytes = TinyModel(config).gguf();
  for (const char* key : {"llama.attention.head_count_kv", "llama.attention.key_length", "llama.attention.value_length",
                          "llama.rope.freq_base"}) {
    bytes = without(bytes, key);
  }
  const Result<ModelProgram> model = build(bytes);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->program.states[0].kv_heads, 4);
  EXPECT_EQ(model->program.states[0].head_dim, 16);
  EXPECT_EQ(model->program.rotaries[0].base, 10000.0);
}

TEST(LlamaFamily, MetadataThatCannotBeIsRefusedByItsName) {
  const TinyConfig config = tiny_llama();
  const auto with_u32 = [&](const char* key, uint32_t value) {
    return refusal(config, [&](GgufWriter& w) { w.u32(key, value); });
  };
  expect_words(with_u32("llama.expert_count", 8), {"tiny.gguf", "llama.expert_count", "expected 0", "got 8"});
  EXPECT_EQ(with_u32("llama.expert_count", 0), "");
  expect_words(with_u32("llama.rope.dimension_count", 8), {"llama.rope.dimension_count", "expected 16", "got 8"});
  EXPECT_EQ(with_u32("llama.rope.dimension_count", 16), "");
  expect_words(refusal(config, [](GgufWriter& w) { w.str("llama.rope.scaling.type", "longrope"); }),
               {"llama.rope.scaling.type", "yarn", "longrope"});
  expect_words(refusal(config, [](GgufWriter& w) { w.f32("llama.rope.scaling.factor", 0.0f); }),
               {"llama.rope.scaling.factor", "0.001"});
  expect_words(refusal(config, [](GgufWriter& w) { w.boolean("llama.attention.causal", false); }),
               {"llama.attention.causal"});
  const auto yarn = [&](const char* key, float value) {
    return refusal(config, [&](GgufWriter& w) {
      w.str("llama.rope.scaling.type", "yarn");
      w.f32(key, value);
    });
  };
  expect_words(yarn("llama.rope.scaling.yarn_log_multiplier", 0.1f), {"yarn_log_multiplier", "expected 0"});
  expect_words(yarn("llama.rope.scaling.yarn_beta_slow", 64.0f), {"yarn_beta_slow", "32", "64"});
  expect_words(yarn("llama.rope.scaling.yarn_ext_factor", 2.0f), {"yarn_ext_factor", "2"});

  TinyConfig other = tiny_llama("qwen2");
  other.window = 100;
  expect_words(refusal(other, [](GgufWriter&) {}), {"qwen2.attention.sliding_window", "which layers slide", "100"});
  other = tiny_llama();
  other.head_dim = 24;
  expect_words(refusal(other, [](GgufWriter&) {}), {"key_length", "multiple of 16", "24"});
  other = tiny_llama();
  other.kv_heads = 3;
  expect_words(refusal(other, [](GgufWriter&) {}), {"head_count_kv", "3"});
  other = tiny_llama();
  other.full_base = 0.5;
  expect_words(refusal(other, [](GgufWriter&) {}), {"rope.freq_base", "0.5"});
  expect_words(refusal(without(TinyModel(config).gguf(), "llama.block_count")), {"llama.block_count"});
}

TEST(LlamaFamily, MetadataThatChangeTheResultAreUnderstoodOrRefused) {
  const TinyConfig config = tiny_llama();
  const auto with_f32 = [&](const char* key, float value) {
    return refusal(config, [&](GgufWriter& w) { w.f32(key, value); });
  };
  expect_words(with_f32("llama.attn_logit_softcapping", 50.0f), {"llama.attn_logit_softcapping", "expected 0", "50"});
  expect_words(with_f32("llama.final_logit_softcapping", 30.0f), {"llama.final_logit_softcapping", "30"});
  expect_words(with_f32("llama.embedding_scale", 12.0f), {"llama.embedding_scale", "expected 1", "12"});
  expect_words(with_f32("llama.residual_scale", 0.22f), {"llama.residual_scale", "0.22"});
  expect_words(with_f32("llama.logit_scale", 8.0f), {"llama.logit_scale", "8"});
  expect_words(with_f32("llama.attention.scale", 0.015f), {"llama.attention.scale", "0.015"});
  expect_words(with_f32("llama.attention.clamp_kqv", 8.0f), {"llama.attention.clamp_kqv", "8"});
  expect_words(with_f32("llama.attention.max_alibi_bias", 8.0f), {"llama.attention.max_alibi_bias", "8"});
  TinyConfig sliding = config;
  sliding.window = 16;
  const auto with_pattern = [&](uint32_t pattern) {
    return refusal(sliding, [&](GgufWriter& w) { w.u32("llama.attention.sliding_window_pattern", pattern); });
  };
  expect_words(with_pattern(4), {"llama.attention.sliding_window_pattern", "expected 1", "got 4"});
  EXPECT_EQ(with_pattern(1), "") << "every layer slides";
  EXPECT_EQ(rotary_of(config,
                      [](GgufWriter& w) {
                        w.str("llama.rope.scaling.type", "none");
                        w.f32("llama.rope.scaling.attn_factor", 0.5f);
                      })
                .attention_factor,
            0.5);
}

TEST(LlamaFamily, KeysThatNobodyKnowsAreRefusedByName) {
  const TinyConfig config = tiny_llama();
  const auto with_u32 = [&](const char* key, uint32_t value) {
    return refusal(config, [&](GgufWriter& w) { w.u32(key, value); });
  };
  expect_words(with_u32("llama.attention.new_kind", 3),
               {"tiny.gguf", "dense llama", "'llama.attention.new_kind' = 3", "may change results"});
  expect_words(with_u32("llama.rope.freq_base_swa", 10000), {"llama.rope.freq_base_swa"});
  expect_words(with_u32("llama.nextn_predict_layers", 1), {"llama.nextn_predict_layers", "expected 0"});
  expect_words(refusal(config, [](GgufWriter& w) { w.f32("llama.rope.scaling.low_freq_factor", 1.0f); }),
               {"llama.rope.scaling.low_freq_factor"});
  for (const char* key : {"llama.vocab_size", "llama.pooling_type", "llama.expert_used_count",
                          "llama.vision.block_count", "llama.rope.scaling.original_context_length",
                          "llama.rope.scaling.yarn_beta_fast", "llamas.other", "general.new"}) {
    EXPECT_EQ(with_u32(key, 3), "") << key;
  }
  expect_words(refusal(config,
                       [](GgufWriter& w) {
                         w.f32("llama.rope.scaling.factor", 2.0f);
                         w.f32("llama.rope.scale_linear", 4.0f);
                       }),
               {"llama.rope.scale_linear", "expected 2", "got 4"});
}

TEST(LlamaFamily, TensorsThatHoldNothingAreIgnored) {
  EXPECT_EQ(refusal(tiny_llama(),
                    [](GgufWriter& w) {
                      w.tensor("blk.0.none", GgmlType::F32, std::vector<int64_t>{0}, {});
                      w.tensor("a number", GgmlType::F32, {}, std::vector<uint8_t>(4));
                    }),
            "");
  expect_words(
      refusal(tiny_llama(),
              [](GgufWriter& w) { w.tensor("blk.0.attn_q.scale", GgmlType::F32, {}, std::vector<uint8_t>(4)); }),
      {"blk.0.attn_q.scale"});
}

// The same numbers as vectors of 16 bits give the same weights.
TEST(LlamaFamily, NormsAndBiasesMayHaveSixteenBits) {
  TinyConfig config = tiny_llama("qwen2");
  config.divisors = {1, 2, 3, 4, 5, 6, 7, 8};
  for (const GgmlType type : {GgmlType::F16, GgmlType::BF16}) {
    GgufWriter narrow, wide;
    const std::vector<uint8_t> bytes = TinyModel(config).gguf();
    const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
    for (const GgufEntry& entry : file.entries()) {
      narrow.copy(entry);
      wide.copy(entry);
    }
    for (const GgufTensor& tensor : file.tensors()) {
      if (tensor.shape.size() != 1) {
        narrow.tensor(tensor.name, tensor.type, tensor.shape, {tensor.data, tensor.bytes});
        wide.tensor(tensor.name, tensor.type, tensor.shape, {tensor.data, tensor.bytes});
        continue;
      }
      std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
      std::memcpy(values.data(), tensor.data, tensor.bytes);
      std::vector<uint16_t> halves;
      for (float& value : values) {
        const bool half = type == GgmlType::F16;
        halves.push_back(half ? float_to_f16(value) : float_to_bf16(value));
        value = half ? f16_to_float(halves.back()) : bf16_to_float(halves.back());
      }
      const auto raw = [](const auto& list) {
        return std::span(reinterpret_cast<const uint8_t*>(list.data()), list.size() * sizeof list[0]);
      };
      narrow.tensor(tensor.name, type, tensor.shape, raw(halves));
      wide.tensor(tensor.name, GgmlType::F32, tensor.shape, raw(values));
    }
    ThreadPool pool(1);
    const std::vector<uint8_t> narrow_bytes = narrow.finish(), wide_bytes = wide.finish();
    const Gguf narrow_file = Gguf::parse(narrow_bytes, "n").value(), wide_file = Gguf::parse(wide_bytes, "w").value();
    const Result<ModelProgram> model = build_program(narrow_file);
    ASSERT_TRUE(model.ok()) << model.status().message();
    EXPECT_EQ(model->program.rotaries, build_program(wide_file)->program.rotaries);
    const WeightStore a = load_weights(narrow_file, model.value(), pool).value();
    const WeightStore b = load_weights(wide_file, model.value(), pool).value();
    ASSERT_EQ(a.bytes(), b.bytes());
    EXPECT_EQ(std::memcmp(a.block.data(), b.block.data(), a.bytes()), 0);
  }
}

TEST(LlamaFamily, AnArchitectureWithoutARowOfItsOwnIsRefused) {
  // What families.inc would do with a line that has no row among the variants.
  for (const char* architecture : {"gemma3", "llama5", ""}) {
    GgufWriter writer;
    writer.str("general.architecture", architecture);
    const std::vector<uint8_t> bytes = writer.finish();
    const Gguf file = Gguf::parse(bytes, "other.gguf").value();
    const Result<ModelProgram> model = build_llama(file);
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.status().message(), std::string("other.gguf: general.architecture: expected llama, qwen2 or qwen3, "
                                                    "got ") +
                                            architecture);
  }
}

TEST(LlamaFamily, TensorsOfAnotherModelAreRefusedByTheirName) {
  const auto vector = [](GgufWriter& writer, const char* name, GgmlType type, int64_t width) {
    const std::vector<uint8_t> bytes(static_cast<size_t>(width) * (type == GgmlType::F32 ? 4 : 2));
    writer.tensor(name, type, std::vector<int64_t>{width}, bytes);
  };
  const auto with = [&](const char* name, GgmlType type, int64_t width) {
    return refusal(tiny_llama(), [&](GgufWriter& writer) { vector(writer, name, type, width); });
  };
  EXPECT_EQ(with("blk.0.attn_k.bias", GgmlType::F32, 32), "");
  expect_words(with("blk.0.attn_k.bias", GgmlType::F32, 64), {"blk.0.attn_k.bias", "shape [32]", "[64]"});
  EXPECT_EQ(with("blk.0.attn_k.bias", GgmlType::F16, 32), "");
  expect_words(with("rope_freqs.weight", GgmlType::F32, 16), {"rope_freqs.weight", "shape [8]", "[16]"});
  expect_words(with("rope_freqs.weight", GgmlType::F32, 8), {"frequency factor", "0"});
  expect_words(with("blk.0.ffn_gate_inp.weight", GgmlType::F32, 64), {"dense llama", "blk.0.ffn_gate_inp.weight"});
  expect_words(with("blk.0.attn_q_norm.weight", GgmlType::F32, 16), {"blk.0.attn_q_norm.weight"});
  EXPECT_EQ(with("blk.0.attn_rot_embd.weight", GgmlType::F32, 16), "");
}

}  // namespace
}  // namespace kvass
