// Tiny random models of the llama family against transformers in float64 (tests/data/make_llama_models.py): every kind
// of rotary scaling, biases, head norms, a sliding window, and the weight types that a converter writes.
//
// Tolerances are max |difference| / max |logit| over the positions in the goldens.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "damage.h"
#include "file/safetensors.h"
#include "streams.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr int64_t kVocabulary = 144;

std::string model_path(const std::string& name) { return KVASS_TEST_DATA_DIR "/llama_" + name + ".gguf"; }

// The elements of a tensor of the goldens; T has their size.
template <class T>
std::vector<T> golden(const std::string& name) {
  const Result<SafeTensors> file = SafeTensors::open(KVASS_TEST_DATA_DIR "/llama_logits.safetensors");
  EXPECT_TRUE(file.ok()) << file.status().message();
  const SafeTensor* tensor = file.ok() ? file->find(name) : nullptr;
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  EXPECT_EQ(tensor->bytes.size(), static_cast<size_t>(tensor->elements()) * sizeof(T));
  std::vector<T> values(tensor->bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
  return values;
}

// The largest error of these logits of every position, relative to the largest logit.
double golden_error(const std::string& model, const std::vector<float>& logits) {
  const std::vector<float> expected = golden<float>(model + ".logits");
  EXPECT_GE(logits.size(), expected.size());
  if (expected.empty() || logits.size() < expected.size()) return 1.0;
  double most = 0.0, difference = 0.0;
  const float* got = logits.data() + (logits.size() - expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(got[i])) return 1.0;
    most = std::max(most, std::abs(static_cast<double>(expected[i])));
    difference = std::max(difference, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
  }
  return difference / most;
}

class Llama : public ::testing::TestWithParam<const char*> {
 protected:
  static EnginePtr engine(Math math, Isa isa) {
    const Result<Gguf> file = Gguf::open(model_path(GetParam()));
    EXPECT_TRUE(file.ok()) << file.status().message();
    const Result<EnginePtr> engine = try_engine(file.value(), math, isa);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return engine.value();
  }
  static std::vector<int32_t> tokens() { return golden<int32_t>(GetParam() + std::string(".tokens")); }
  static double error(const std::vector<float>& logits) { return golden_error(GetParam(), logits); }
};

TEST_P(Llama, LogitsAreThoseOfTransformersInFloat64) {
  struct Tolerance {
    const char* name;
    Math math;
    DType dtype;
    double bound;
  };
  constexpr Tolerance kTolerances[] = {
      {"f32", Math::f32, DType::f32, 1e-5}, {"a16", Math::a16, DType::f16, 5e-3}, {"a8", Math::a8, DType::f16, 2e-1}};
  const std::vector<int32_t> ids = tokens();
  for (const auto& [name, math, dtype, bound] : kTolerances) {
    const CacheOptions caches = flat_caches(static_cast<int64_t>(ids.size()), 32, dtype);
    const double largest = error(run_stream(engine(math, best_isa()), caches, ids, {32}));
    RecordProperty(name, fmt::format("{:.1e}", largest));
    EXPECT_LE(largest, bound) << name;
  }
}

TEST_P(Llama, AnyChunkingThreadsAndInstructionSetGiveTheSameBits) {
  const std::vector<int32_t> ids = tokens();
  const int64_t count = static_cast<int64_t>(ids.size());
  for (const Math math : {Math::f32, Math::a16}) {
    const std::vector<float> whole = run_stream(engine(math, Isa::scalar), flat_caches(count, count), ids, {count});
    ASSERT_EQ(whole.size(), ids.size() * kVocabulary);
    for (const Isa isa : available_isas()) {
      const EnginePtr same = engine(math, isa);
      for (const int64_t chunk : {int64_t{1}, int64_t{7}, count}) {
        SCOPED_TRACE(::testing::Message() << isa_name(isa) << ", chunks of " << chunk);
        const int threads = chunk == 7 ? 3 : 1;
        const std::vector<float> logits = run_stream(same, flat_caches(count, chunk), ids, {chunk}, threads);
        EXPECT_EQ(first_difference(whole, logits, kVocabulary), -1);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Llama,
                         ::testing::Values("plain", "llama3", "linear", "yarn", "mistral", "qwen2", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

// The goldens of this model are for positions after the ring's first wrap.
class SlidingLlama : public Llama {};

TEST_P(SlidingLlama, EveryLayerIsARingThatHasWrapped) {
  const std::vector<int32_t> ids = tokens();
  const CacheOptions caches = flat_caches(static_cast<int64_t>(ids.size()), 16, DType::f32);
  const EnginePtr sliding = engine(Math::f32, best_isa());
  const std::unique_ptr<Sequence> sequence = make_sequence(sliding, caches);
  for (const LayerCache& layer : sequence->plan().layers) {
    EXPECT_EQ(layer.layout.kind(), LayoutKind::ring);
    EXPECT_LT(layer.layout.slots(), static_cast<int64_t>(ids.size()) - 64);
  }
  EXPECT_LE(error(run_stream(sliding, caches, ids, {16})), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Models, SlidingLlama, ::testing::Values("mistral"),
                         [](const auto& info) { return std::string(info.param); });

std::vector<uint8_t> model_bytes(const std::string& model) {
  std::ifstream file(model_path(model), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(LlamaGoldens, EveryKeyOfTheMetadataCounts) {  // otherwise the bound above would not test it
  const std::pair<const char*, const char*> keys[] = {{"plain", "rope.freq_base"},
                                                      {"linear", "rope.scaling.factor"},
                                                      {"yarn", "rope.scaling.factor"},
                                                      {"yarn", "rope.scaling.original_context_length"},
                                                      {"yarn", "rope.scaling.yarn_beta_fast"},
                                                      {"yarn", "rope.scaling.yarn_beta_slow"},
                                                      {"yarn", "rope.scaling.type"},
                                                      {"mistral", "attention.sliding_window"}};
  for (const auto& [model, key] : keys) {
    SCOPED_TRACE(key);
    const Result<EnginePtr> engine =
        try_engine(without(model_bytes(model), std::string(".") + key), Math::f32, best_isa());
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    const std::vector<int32_t> ids = golden<int32_t>(model + std::string(".tokens"));
    const CacheOptions caches = flat_caches(static_cast<int64_t>(ids.size()), 64, DType::f32);
    EXPECT_GT(golden_error(model, run_stream(engine.value(), caches, ids, {64})), 1e-3) << model;
  }
}

TEST(LlamaGoldens, ATensorThatIsMissingOrUnknownIsRefusedByItsName) {
  struct Case {
    const char *model, *tensor, *words;
  };
  const Case cases[] = {
      {"qwen2", "blk.1.attn_q.bias", "'blk.1.attn_q.bias'"},
      {"linear", "blk.1.attn_q.bias", "also '~lk.1.attn_q.bias'"},
      {"llama3", "rope_freqs.weight", "also '~ope_freqs.weight'"},
      {"qwen3", "blk.0.attn_k_norm.weight", "'blk.0.attn_k_norm.weight'"},
      {"plain", "blk.1.ffn_up.weight", "'blk.1.ffn_up.weight'"},
      {"plain", "output_norm.weight", "'output_norm.weight'"},
  };
  for (const auto& [model, tensor, words] : cases) {
    const Result<EnginePtr> engine = try_engine(without(model_bytes(model), tensor), Math::f32, Isa::scalar);
    ASSERT_FALSE(engine.ok()) << model << " " << tensor;
    expect_words(engine.status().message(), {words});
  }
}

TEST(LlamaGoldens, ATruncatedFileIsRefused) {
  const std::vector<uint8_t> whole = model_bytes("qwen3");
  for (size_t bytes = 0; bytes < whole.size(); bytes += 1 + bytes / 40) {
    const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<int64_t>(bytes));
    const Result<EnginePtr> engine = try_engine(part, Math::f32, Isa::scalar);
    ASSERT_FALSE(engine.ok()) << bytes << " of " << whole.size() << " bytes";
    ASSERT_NE(engine.status().message().find("tiny.gguf"), std::string::npos) << engine.status().message();
  }
}

}  // namespace
}  // namespace kvass
