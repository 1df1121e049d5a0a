// The executor against a float64 forward pass that is written plainly and shares nothing with it
// (tests/reference_model.h).
//
// Tolerances are max |difference| / max |logit| over all positions. float32 arithmetic with float32 caches: 1e-5 (84
// float epsilons, over 7 layers; about 2e-6 is reached). Rounded storage and activations: loose bounds that still tell
// a wrong mask, position or scale, whose effect is of the order of 1.
#include <gtest/gtest.h>

#include <cmath>

#include "reference_model.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

double peak_relative(const std::vector<float>& logits, const std::vector<ReferenceModel::Row>& reference) {
  double most = 0.0, difference = 0.0;
  const size_t width = reference[0].size();
  EXPECT_EQ(logits.size(), width * reference.size());
  if (logits.size() != width * reference.size()) return 1.0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double expected = reference[i / width][i % width];
    most = std::max(most, std::abs(expected));
    difference = std::max(difference, std::abs(static_cast<double>(logits[i]) - expected));
    if (std::isnan(logits[i])) return 1.0;
  }
  return difference / most;
}

struct Tolerance {
  Math math;
  DType dtype;
  double bound;
};
constexpr Tolerance kTolerances[] = {{Math::f32, DType::f32, 1e-5},  {Math::f32, DType::f16, 5e-3},
                                     {Math::f32, DType::bf16, 4e-2}, {Math::a16, DType::f32, 1e-3},
                                     {Math::a16, DType::f16, 5e-3},  {Math::f32, DType::q8, 2e-1},
                                     {Math::a8, DType::f32, 2e-1}};

void compare(const TinyConfig& config, const ReferenceSinks& sinks, size_t count, const std::vector<int64_t>& chunks) {
  const TinyModel model(config);
  const std::vector<int32_t> tokens = model.tokens(count);
  const std::vector<ReferenceModel::Row> reference = ReferenceModel(model).run(tokens, sinks);
  for (const auto& [math, dtype, bound] : kTolerances) {
    CacheOptions caches = sinks.on ? sink_caches(sinks.sink_tokens, sinks.sink_window, 64, dtype)
                                   : flat_caches(static_cast<int64_t>(count), 64, dtype);
    caches.sink_positions = sinks.positions;
    caches.rotary_offset = sinks.offset;
    const double error =
        peak_relative(run_stream(tiny_engine(model, math, best_isa()), caches, tokens, chunks), reference);
    const std::string name =
        std::string(std::array{"f32", "a16", "a8"}[static_cast<size_t>(math)]) + "_" + std::string(dtype_name(dtype));
    ::testing::Test::RecordProperty(name, std::to_string(error));
    EXPECT_LE(error, bound) << name;
  }
}

TEST(Float64Reference, DenseAttentionWithSlidingLayers) { compare({}, {}, 150, {64}); }

TEST(Float64Reference, TokenByToken) { compare({}, {}, 90, {1}); }

TEST(Float64Reference, EndlessStreamAtInCachePositions) { compare({}, {true, 4, 20}, 200, {40, 1, 1, 1, 33, 64}); }

TEST(Float64Reference, EndlessStreamAtOriginalPositions) {
  compare({}, {true, 4, 20, SinkPositions::original}, 200, {40, 1, 1, 1, 33, 64});
  compare({}, {true, 4, 20, SinkPositions::original, 900}, 200, {40, 1, 1, 1, 33, 64});
}

TEST(Float64Reference, EndlessStreamAtWrappedPositions) {
  compare({}, {true, 4, 20, SinkPositions::wrapped}, 200, {40, 1, 1, 1, 33, 64});
  compare({}, {true, 4, 20, SinkPositions::wrapped, 33}, 120, {64});
}

TEST(Float64Reference, EndlessStreamWithoutSinks) { compare({}, {true, 0, 24}, 200, {64}); }

TEST(Float64Reference, MoreSinksThanATileHolds) { compare({}, {true, 66, 10}, 180, {50}); }

TEST(Float64Reference, WindowOfOneAndOneSink) { compare({}, {true, 1, 1}, 80, {64, 1}); }

TEST(Float64Reference, SoftCapsAndLinearRotaryScaling) {
  TinyConfig config;
  config.attention_cap = 3.0f;
  config.logit_cap = 2.0f;
  config.rope_factor = 8.0;
  config.seed = 5;
  compare(config, {}, 120, {64});
  compare(config, {true, 4, 20}, 120, {64});
}

TEST(Float64Reference, OneKvHeadForAllAndOneForEach) {
  TinyConfig config;
  config.kv_heads = 1;
  config.head_dim = 32;
  config.seed = 6;
  compare(config, {}, 100, {64});
  config.kv_heads = 4;
  config.head_dim = 48;
  config.layers = 3;
  compare(config, {true, 4, 30}, 100, {64});
}

// Full layers, all the arithmetic of the rotary scalings in one table.
std::vector<TinyConfig> scaled_rotaries() {
  std::vector<TinyConfig> configs(4, tiny_llama());
  configs[0].rope_factor = 4.0;
  configs[0].attention_factor = 1.25;
  configs[1].divisors = {1.0f, 1.0f, 1.5f, 2.5f, 4.0f, 8.0f, 8.0f, 8.0f};
  configs[2].yarn = {512, 4.0, 0.5};
  configs[2].rope_factor = 4.0;
  configs[3] = configs[2];
  configs[3].architecture = "qwen2";
  configs[3].attention_factor = 0.8;
  configs[3].divisors = configs[1].divisors;
  return configs;
}

TEST(Float64Reference, AdjacentRotaryPairs) {
  TinyConfig config = tiny_llama();
  config.tied = false;
  compare(config, {}, 120, {64});
  compare(config, {true, 4, 20}, 150, {40, 1, 1, 33, 64});
  config.head_dim = 48;
  config.kv_heads = 1;
  compare(config, {}, 100, {7});
}

TEST(Float64Reference, EveryLayerSlides) {
  TinyConfig config = tiny_llama();
  config.window = 16;
  compare(config, {}, 300, {24});
  compare(config, {true, 4, 20}, 200, {40});
}

TEST(Float64Reference, BiasesOfEveryProjection) {
  TinyConfig config = tiny_llama();
  config.biases = true;
  compare(config, {}, 100, {64, 1});
  compare(tiny_llama("qwen2"), {true, 2, 30}, 100, {33});
}

TEST(Float64Reference, HeadNormsAndAHeadSizeThatIsNotTheWidthsShare) {
  TinyConfig config = tiny_llama("qwen3");
  config.head_dim = 32;
  compare(config, {}, 120, {50});
}

TEST(Float64Reference, ScaledRotaryEmbeddings) {
  for (const TinyConfig& config : scaled_rotaries()) {
    compare(config, {}, 150, {64});
    compare(config, {true, 4, 20}, 150, {64});  // sink keys are seen from another position, with the same amplitude
  }
}

TEST(Float64Reference, EveryParameterOfTheRotaryEmbeddingCounts) {
  const std::vector<TinyConfig> configs = scaled_rotaries();
  const std::vector<int32_t> tokens = TinyModel(configs[0]).tokens(100);
  const auto error = [&](const TinyConfig& config, const TinyConfig& reference) {
    const EnginePtr engine = tiny_engine(TinyModel(config), Math::f32, best_isa());
    return peak_relative(run_stream(engine, flat_caches(100, 64, DType::f32), tokens, {64}),
                         ReferenceModel(TinyModel(reference)).run(tokens));
  };
  const auto far_without = [&](size_t which, const auto& change) {
    TinyConfig other = configs[which];
    change(other);
    EXPECT_LE(error(configs[which], configs[which]), 1e-5) << which;
    EXPECT_GT(error(configs[which], other), 1e-3) << which;
  };
  far_without(0, [](TinyConfig& c) { c.rope_factor = 4.1; });
  far_without(0, [](TinyConfig& c) { c.attention_factor = 1.2; });
  far_without(1, [](TinyConfig& c) { c.divisors[3] = 2.0f; });
  far_without(2, [](TinyConfig& c) { c.yarn.context = 1024; });
  far_without(2, [](TinyConfig& c) { c.yarn.beta_fast = 32.0; });
  far_without(2, [](TinyConfig& c) { c.yarn.beta_slow = 2.0; });
  far_without(2, [](TinyConfig& c) { c.yarn = {}; });
  far_without(3, [](TinyConfig& c) { c.divisors.clear(); });
}

TEST(Float64Reference, ADifferentModelIsFarFromIt) {  // the bounds above mean something
  TinyConfig config;
  const TinyModel model(config);
  const std::vector<int32_t> tokens = model.tokens(100);
  const std::vector<float> logits =
      run_stream(tiny_engine(model, Math::f32, best_isa()), sink_caches(4, 20, 64, DType::f32), tokens, {64});
  EXPECT_LE(peak_relative(logits, ReferenceModel(model).run(tokens, {true, 4, 20})), 1e-5);
  EXPECT_GT(peak_relative(logits, ReferenceModel(model).run(tokens, {true, 4, 19})), 1e-2);
  EXPECT_GT(peak_relative(logits, ReferenceModel(model).run(tokens, {true, 3, 20})), 1e-2);
  EXPECT_GT(peak_relative(logits, ReferenceModel(model).run(tokens, {true, 4, 20, SinkPositions::original})), 1e-3);
  EXPECT_GT(peak_relative(logits, ReferenceModel(model).run(tokens, {true, 4, 20, SinkPositions::wrapped})), 1e-3);
  EXPECT_GT(peak_relative(logits, ReferenceModel(model).run(tokens)), 1e-2);
}

}  // namespace
}  // namespace kvass
