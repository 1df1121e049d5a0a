// The Gemma 3 family: the program that a file's metadata gives, its weights, and the files that are refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "damage.h"
#include "model/model.h"
#include "program/greedy.h"
#include "program/op_spec.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

ModelProgram tiny_program(const TinyConfig& config) {
  const std::vector<uint8_t> bytes = TinyModel(config).gguf();
  const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
  Result<ModelProgram> model = build_program(file);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return std::move(model).value();
}

// The error message for a file of this shape; empty if it is accepted.
std::string refusal(const TinyConfig& config) {
  const std::vector<uint8_t> bytes = TinyModel(config).gguf();
  const Result<EnginePtr> engine = try_engine(bytes, Math::f32, Isa::scalar);
  return engine.ok() ? "" : engine.status().message();
}

TEST(Gemma3, LayersAreFullOrSlidingByThePattern) {
  TinyConfig config;
  config.pattern = 3;
  const ModelProgram model = tiny_program(config);
  EXPECT_EQ(model.family, "gemma3");
  EXPECT_EQ(model.trained_context, 32768);
  EXPECT_EQ(verify_program(model.program).message(), "");
  EXPECT_EQ(model.program.vocabulary(), 300);
  ASSERT_EQ(model.program.states.size(), 7u);
  for (int64_t layer = 0; layer < 7; ++layer) {
    const CacheState& state = model.program.states[static_cast<size_t>(layer)];
    const bool full = layer == 2 || layer == 5;
    EXPECT_EQ(state.window, full ? 0 : 16);
    EXPECT_EQ(state.kv_heads, 2);
    EXPECT_EQ(state.head_dim, 16);
    const RotaryParams& rotary = model.program.rotaries[static_cast<size_t>(state.rotary)];
    EXPECT_EQ(rotary.base, full ? 1e6 : 1e4);
    EXPECT_EQ(rotary.factor, 1.0);
  }
  EXPECT_EQ(model.program.rotaries.size(), 2u);
}

TEST(Gemma3, RotaryScalingIsTheFullLayersAlone) {
  TinyConfig config;
  config.rope_factor = 8.0;
  const ModelProgram model = tiny_program(config);
  for (const CacheState& state : model.program.states) {
    EXPECT_EQ(model.program.rotaries[static_cast<size_t>(state.rotary)].factor, state.window == 0 ? 8.0 : 1.0);
  }
}

TEST(Gemma3, ScalesCapsAndEpsilonReachTheirOps) {
  TinyConfig config;
  config.attention_cap = 50.0f;
  config.logit_cap = 30.0f;
  config.epsilon = 1e-5f;
  const Program program = without_greedy(tiny_program(config).program);
  int attentions = 0, caps = 0, norms = 0;
  for (const Op& op : program.ops) {
    if (op.kind == op_kind("embed")) {
      EXPECT_EQ(op.scale, 8.0f);  // sqrt(64)
    }
    if (op.kind == op_kind("rms_norm")) {
      ++norms;
      EXPECT_EQ(op.epsilon, 1e-5f);
    }
    if (op.kind == op_kind("attention")) {
      ++attentions;
      EXPECT_EQ(op.scale, 0.25f);  // 1 / sqrt(16)
      EXPECT_EQ(op.cap, 50.0f);
    }
    if (op.kind == op_kind("softcap")) {
      ++caps;
      EXPECT_EQ(op.cap, 30.0f);
    }
  }
  EXPECT_EQ(attentions, 7);
  EXPECT_EQ(caps, 1);
  EXPECT_EQ(norms, 7 * 6 + 1);
}

TEST(Gemma3, EveryWeightIsBoundToItsTensorAndUnpacksToItsNumbers) {
  const TinyModel tiny;
  const std::vector<uint8_t> bytes = tiny.gguf();
  const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
  ModelProgram model = build_program(file).value();
  ASSERT_EQ(model.tensors.size(), model.program.weights.size());
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const WeightStore store = load_weights(file, model, pool).value();
    EXPECT_EQ(store.bytes(), plan_weights(file, model).value());
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      SCOPED_TRACE(model.tensors[i]);
      const Weight& weight = model.program.weights[i];
      const std::string name = model.tensors[i].substr(0, model.tensors[i].rfind(".weight"));
      const std::vector<double>& expected = tiny.values(name);
      std::vector<float> row(static_cast<size_t>(weight.inputs));
      for (int64_t output = 0; output < std::max<int64_t>(weight.outputs, 1); ++output) {
        if (weight.outputs == 0) {
          row.assign(store.vectors[i], store.vectors[i] + weight.inputs);
        } else {
          unpack_row(store.matrices[i], output, row.data());
        }
        for (int64_t k = 0; k < weight.inputs; ++k) {
          const double value = expected[static_cast<size_t>(output * weight.inputs + k)];
          ASSERT_NEAR(static_cast<double>(row[static_cast<size_t>(k)]), value, 1e-6 * (std::abs(value) + 0.1))
              << output << ", " << k;
        }
      }
    }
  }
}

TEST(Gemma3, MetadataThatCannotBeIsRefusedByItsName) {
  TinyConfig config;
  config.kv_heads = 3;
  expect_words(refusal(config), {"tiny.gguf", "head_count_kv", "3"});
  config = {};
  config.head_dim = 24;
  expect_words(refusal(config), {"key_length", "multiple of 16", "24"});
  config = {};
  config.window = 0;
  expect_words(refusal(config), {"sliding_window", "0"});
  config = {};
  config.pattern = 1;
  expect_words(refusal(config), {"sliding_window_pattern"});
  config = {};
  config.epsilon = 0.0f;
  expect_words(refusal(config), {"layer_norm_rms_epsilon"});
  config = {};
  config.full_base = 0.0;
  EXPECT_NE(refusal(config), "");
  config = {};
  config.rope_factor = -1.0;
  EXPECT_NE(refusal(config), "");
}

// The message with which a file with more in it is refused; empty where it is not.
std::string refusal(const std::function<void(GgufWriter&)>& extra) {
  GgufWriter writer = TinyModel().writer();
  extra(writer);
  const Result<EnginePtr> engine = try_engine(writer.finish(), Math::f32, Isa::scalar);
  return engine.ok() ? "" : engine.status().message();
}

TEST(Gemma3, TensorsOfAnotherModelAreRefusedByTheirName) {
  const auto with = [](const char* name) {
    return refusal([&](GgufWriter& writer) {
      writer.tensor(name, GgmlType::F32, std::vector<int64_t>{64}, std::vector<uint8_t>(256));
    });
  };
  expect_words(with("blk.0.attn_q.bias"), {"tiny.gguf", "gemma3", "also 'blk.0.attn_q.bias'"});
  expect_words(with("blk.3.ffn_gate_inp.weight"), {"gemma3", "blk.3.ffn_gate_inp.weight"});
  expect_words(with("rope_freqs.weight"), {"gemma3", "rope_freqs.weight"});
  expect_words(with("blk.7.attn_norm.weight"), {"gemma3", "blk.7.attn_norm.weight"});  // the model has 7 layers
  EXPECT_EQ(with("v.blk.0.attn_q.weight"), "") << "of the image tower";
  EXPECT_EQ(with("mm.input_projection.weight"), "");
  EXPECT_EQ(with("blk.0.attn_rot_embd.weight"), "");
}

TEST(Gemma3, MetadataThatChangeTheResultAreUnderstoodOrRefused) {
  const auto with_f32 = [](const char* key, float value) {
    return refusal([&](GgufWriter& writer) { writer.f32(key, value); });
  };
  const auto with_u32 = [](const char* key, uint32_t value) {
    return refusal([&](GgufWriter& writer) { writer.u32(key, value); });
  };
  expect_words(with_f32("gemma3.rope.scaling.attn_factor", 1.2f), {"gemma3.rope.scaling.attn_factor", "1.2"});
  EXPECT_EQ(with_f32("gemma3.rope.scaling.attn_factor", 1.0f), "");
  expect_words(with_u32("gemma3.rope.dimension_count", 8), {"gemma3.rope.dimension_count", "expected 16", "got 8"});
  EXPECT_EQ(with_u32("gemma3.rope.dimension_count", 16), "");
  expect_words(with_u32("gemma3.expert_count", 4), {"gemma3.expert_count", "dense", "got 4"});
  expect_words(with_u32("gemma3.attention.shared_kv_layers", 2), {"gemma3.attention.shared_kv_layers", "got 2"});
  expect_words(with_f32("gemma3.attention.scale", 0.25f), {"gemma3.attention.scale", "expected 0", "got 0.25"});
  expect_words(with_f32("gemma3.logit_scale", 2.0f), {"gemma3.logit_scale", "expected 1", "got 2"});
  EXPECT_EQ(with_f32("gemma3.logit_scale", 1.0f), "");
  expect_words(refusal([](GgufWriter& writer) { writer.boolean("gemma3.attention.causal", false); }),
               {"gemma3.attention.causal"});
  expect_words(refusal([](GgufWriter& writer) { writer.str("gemma3.rope.scaling.type", "yarn"); }),
               {"gemma3.rope.scaling.type", "linear or none", "yarn"});
}

TEST(Gemma3, AScalingFactorWithoutItsTypeIsLinear) {
  for (const char* key : {"gemma3.rope.scaling.factor", "gemma3.rope.scale_linear"}) {
    GgufWriter writer = TinyModel().writer();
    writer.f32(key, 8.0f);
    const std::vector<uint8_t> bytes = writer.finish();
    const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
    const Result<ModelProgram> model = build_program(file);
    ASSERT_TRUE(model.ok()) << model.status().message();
    for (const CacheState& state : model->program.states) {
      const double factor = model->program.rotaries[static_cast<size_t>(state.rotary)].factor;
      EXPECT_EQ(factor, state.window == 0 ? 8.0 : 1.0) << key;
    }
  }
}

ModelProgram program_with(const TinyConfig& config, const std::string& missing,
                          const std::function<void(GgufWriter&)>& extra) {
  GgufWriter writer = TinyModel(config).writer();
  extra(writer);
  const std::vector<uint8_t> bytes = missing.empty() ? writer.finish() : without(writer.finish(), missing);
  const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
  Result<ModelProgram> model = build_program(file);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return model.ok() ? std::move(model).value() : ModelProgram{};
}

const RotaryParams& rotary_of(const ModelProgram& model, size_t layer) {
  return model.program.rotaries[static_cast<size_t>(model.program.states[layer].rotary)];
}

TEST(Gemma3, TheLayersThatSlideMayBeListed) {
  constexpr char kPattern[] = "gemma3.attention.sliding_window_pattern";
  TinyConfig config;
  config.pattern = 0;
  const auto windows = [&](const std::function<void(GgufWriter&)>& pattern) {
    std::vector<int64_t> found;
    for (const CacheState& state : program_with(config, "", pattern).program.states) found.push_back(state.window);
    return found;
  };
  const auto bools = [&](std::vector<uint8_t> list) {
    return [=](GgufWriter& w) { w.array<uint8_t>(kPattern, GgufValueType::boolean, list); };
  };
  const std::vector<int64_t> expected = {16, 0, 0, 16, 16, 16, 0};
  EXPECT_EQ(windows(bools({1, 0, 0, 1, 1, 1, 0})), expected);
  EXPECT_EQ(windows([&](GgufWriter& w) { w.i32s(kPattern, std::vector<int32_t>{1, 0, 0, 1, 1, 1, 0}); }), expected);
  EXPECT_EQ(windows([](GgufWriter&) {}), (std::vector<int64_t>{16, 16, 16, 16, 16, 0, 16}));
  const auto refused = [&](std::vector<uint8_t> list) {
    GgufWriter writer = TinyModel(config).writer();
    bools(std::move(list))(writer);
    const Result<EnginePtr> engine = try_engine(writer.finish(), Math::f32, Isa::scalar);
    return engine.ok() ? "" : engine.status().message();
  };
  expect_words(refused({1, 0, 1}), {kPattern, "7 elements", "3"});
  expect_words(refused({1, 0, 1, 1, 1, 1, 2}), {kPattern});  // a bool of value 2
}

TEST(Gemma3, AFileWithoutAnEpsilonHasGemmasAndSaysSo) {
  const ModelProgram model = program_with({}, "gemma3.attention.layer_norm_rms_epsilon", [](GgufWriter&) {});
  for (const Op& op : model.program.ops) {
    if (op.kind == op_kind("rms_norm")) {
      EXPECT_EQ(op.epsilon, 1e-6f);
    }
  }
  ASSERT_EQ(model.notes.size(), 1u);
  expect_words(model.notes[0], {"tiny.gguf", "gemma3.attention.layer_norm_rms_epsilon", "1e-06"});
  EXPECT_TRUE(tiny_program({}).notes.empty());
}

TEST(Gemma3, BasesHaveOllamasNamesAsWell) {
  const auto bases = [](GgufWriter& w) {
    w.f32("gemma3.rope.local.freq_base", 20000.0f);
    w.f32("gemma3.rope.global.freq_base", 1e6f);
  };
  const ModelProgram model = program_with({}, "gemma3.rope.freq_base_swa", bases);
  EXPECT_EQ(rotary_of(model, 0).base, 2e4);
  EXPECT_EQ(rotary_of(model, 2).base, 1e6);
  EXPECT_TRUE(model.notes.empty());
  expect_words(refusal([](GgufWriter& w) { w.f32("gemma3.rope.local.freq_base", 20000.0f); }),
               {"gemma3.rope.local.freq_base", "expected 10000", "gemma3.rope.freq_base_swa", "20000"});
  expect_words(refusal([](GgufWriter& w) { w.f32("gemma3.rope.freq_scale", 0.125f); }), {"gemma3.rope.freq_scale"});
}

TEST(Gemma3, OllamasFirstFilesAreMendedAndSaySo) {
  const auto bases = [](GgufWriter& w) { w.f32("gemma3.rope.local.freq_base", 1e4f); };
  TinyConfig config;
  config.layers = 34;
  const ModelProgram larger = program_with(config, "", bases);
  EXPECT_EQ(rotary_of(larger, 2).factor, 8.0);
  EXPECT_EQ(rotary_of(larger, 0).factor, 1.0);
  ASSERT_EQ(larger.notes.size(), 1u);
  expect_words(larger.notes[0], {"gemma3.rope.scaling.factor", "8"});
  EXPECT_EQ(rotary_of(program_with(config, "", [](GgufWriter&) {}), 2).factor, 1.0) << "of another converter";
  config.layers = 26;
  config.logit_cap = 30.0f;
  const ModelProgram smaller = program_with(config, "", bases);
  ASSERT_EQ(smaller.notes.size(), 1u);
  expect_words(smaller.notes[0], {"gemma3.final_logit_softcapping", "not applied"});
  for (const Op& op : smaller.program.ops) EXPECT_NE(op.kind, op_kind("softcap"));
}

// A file that says nothing but its architecture.
std::string other_architecture(const std::string& architecture) {
  GgufWriter writer;
  if (!architecture.empty()) writer.str("general.architecture", architecture);
  const std::vector<uint8_t> bytes = writer.finish();
  const Gguf file = Gguf::parse(bytes, "other.gguf").value();
  const Result<ModelProgram> model = build_program(file);
  return model.ok() ? "" : model.status().message();
}

TEST(Families, AnUnknownArchitectureNamesTheOnesThatAreKnown) {
  expect_words(other_architecture("mamba"),
               {"other.gguf", "general.architecture", "gemma3", "llama", "qwen3", "mamba"});
  expect_words(other_architecture(""), {"general.architecture"});
  expect_words(other_architecture("gemma3"), {"other.gguf", "gemma3."});
}

TEST(Families, AMissingTensorOrAWrongShapeIsRefusedByItsName) {
  // Metadata of one width, tensors of another.
  const TinyModel tiny;
  const std::vector<uint8_t> bytes = tiny.gguf();
  const auto damage = [&](const std::string& from, const std::string& to) {
    const Result<EnginePtr> engine = try_engine(renamed(bytes, from, to), Math::f32, Isa::scalar);
    return engine.ok() ? "" : engine.status().message();
  };
  expect_words(damage("blk.4.attn_k.weight", "blk.4.attn_x.weight"), {"tiny.gguf", "blk.4.attn_k.weight"});
  expect_words(damage("output_norm.weight", "output_morn.weight"), {"output_norm.weight"});
  // The value of feed_forward_length follows its key and type: 256 becomes 512.
  const std::string key = "gemma3.feed_forward_length";
  expect_words(damage(key + std::string("\x04\0\0\0\0\x01", 6), key + std::string("\x04\0\0\0\0\x02", 6)),
               {"ffn_gate", "shape", "512", "256"});
}

TEST(Engine, RefusesAStoreThatIsNotThePrograms) {
  const TinyModel tiny;
  const std::vector<uint8_t> bytes = tiny.gguf();
  const Gguf file = Gguf::parse(bytes, "tiny.gguf").value();
  const auto refused = [&](const std::function<void(Program&, WeightStore&)>& damage) {
    ModelProgram model = build_program(file).value();
    ThreadPool pool(1);
    WeightStore store = load_weights(file, model, pool).value();
    damage(model.program, store);
    const Result<EnginePtr> engine =
        Engine::create(std::move(model.program), std::move(store), {Math::f32, Isa::scalar});
    return engine.ok() ? "" : engine.status().message();
  };
  EXPECT_EQ(refused([](Program&, WeightStore&) {}), "");
  expect_words(refused([](Program&, WeightStore& w) { w.matrices.pop_back(); }), {"weights"});
  expect_words(refused([](Program&, WeightStore& w) { w.matrices[0].n -= 1; }), {"weight", "token_embd"});
  expect_words(refused([](Program&, WeightStore& w) { w.matrices[0].data = nullptr; }), {"weight", "token_embd"});
  expect_words(refused([](Program& p, WeightStore&) { p.hidden = kNone; }), {"program"});
  expect_words(refused([](Program& p, WeightStore&) { p.rotaries[0].base = 0.0; }), {"base"});
}

}  // namespace
}  // namespace kvass
