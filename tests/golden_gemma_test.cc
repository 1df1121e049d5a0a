// Gemma 3 270M against PyTorch on the same weights (gemma3_270m.json): logits of the last position, losses, greedy
// continuations and hidden states, for every arithmetic and storage type. The goldens' README has the tolerances. It
// has no row for a16, which must meet the tolerance of its cache type (for float32 caches: that of f16).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "golden_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

struct Mode {
  Math math;
  DType kv;
  double logits;       // max |difference| over the last position's logits
  double logits_long;  // the same for the prompt of 1606 tokens
  double nll;          // |difference| of the mean
  double rms = 1e9;
  double top64 = 1e9;
  bool greedy = true;  // must follow the reference until the margin between two tokens is too small
};
constexpr Mode kF32{Math::f32, DType::f32, 1e-3, 1e-3, 1e-4};
constexpr Mode kF32F16{Math::f32, DType::f16, 0.04, 0.04, 1e-3};
constexpr Mode kF32Bf16{Math::f32, DType::bf16, 0.2, 0.7, 0.01};
constexpr Mode kA16{Math::a16, DType::f32, 0.04, 0.04, 1e-3};
constexpr Mode kA16F16{Math::a16, DType::f16, 0.04, 0.04, 1e-3};
constexpr Mode kA16Bf16{Math::a16, DType::bf16, 0.2, 0.7, 0.01};
constexpr Mode kA8F16{Math::a8, DType::f16, 2.5, 2.5, 0.05, 1.0, 2.0, false};
constexpr Mode kA8{Math::a8, DType::f32, 2.5, 2.5, 0.05, 1.0, 2.0, false};
constexpr Mode kA8Bf16{Math::a8, DType::bf16, 2.5, 2.5, 0.05, 1.0, 2.0, false};

StreamOptions stream_options(const Mode& mode, size_t tokens) {
  StreamOptions options;
  options.context = static_cast<int64_t>(tokens) + 48;
  options.kv = mode.kv;
  options.math = mode.math;
  return options;
}

int32_t greedy(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Checks how many of the 48 tokens equal the reference's.
void check_greedy(OpenStream& stream, const nlohmann::json& prompt, std::vector<float> logits, double tolerance,
                  bool all) {
  const auto expected = prompt["greedy48"].get<std::vector<int32_t>>();
  const auto margins = prompt["greedy48_margin"].get<std::vector<double>>();
  for (size_t step = 0; step < effort<size_t>(expected.size(), 4); ++step) {
    if (!all && margins[step] < 2 * tolerance) return;
    const int32_t token = greedy(logits);
    ASSERT_EQ(token, expected[step]) << "step " << step << ", margin " << margins[step];
    const StepRun run{stream.sequence.get(), stream.sequence->length(), std::span(&token, 1)};
    ASSERT_TRUE(stream.session->step({std::span(&run, 1)}).ok());
    const int32_t row = 0;
    const std::span<const float> next = stream.session->step({.logits = std::span(&row, 1)}).value().logits;
    logits.assign(next.begin(), next.end());
    const Argmax largest = stream.session->step({.argmax = std::span(&row, 1)}).value().argmax.front();
    ASSERT_EQ(largest.index, greedy(logits)) << "step " << step;
    ASSERT_EQ(largest.value, logits[static_cast<size_t>(largest.index)]) << "step " << step;
  }
}

void check_prompt(const Mode& mode, const nlohmann::json& prompt, GoldenArrays& arrays) {
  const std::string name = prompt["name"].get<std::string>();
  SCOPED_TRACE(name);
  const OpenModel& model = golden_model(mode.math);
  const auto ids = prompt["ids"].get<std::vector<int32_t>>();
  EXPECT_EQ(model.tokenizer->encode(prompt["text"].get<std::string>(), {.bos = true, .parse_special = true}), ids);
  OpenStream stream = golden_stream(model, stream_options(mode, ids.size()));
  ASSERT_TRUE(stream.session);
  const std::atomic<bool> cancel{false};
  const Result<ScoreResult> scored = score(stream, ids, 0, {}, cancel);
  ASSERT_TRUE(scored.ok()) << scored.status().message();
  const int32_t last = static_cast<int32_t>((ids.size() - 1) % static_cast<size_t>(stream.sequence->plan().chunk));
  const std::span<const float> view = stream.session->step({.logits = std::span(&last, 1)}).value().logits;
  const std::vector<float> logits(view.begin(), view.end());
  const std::vector<float> expected = arrays.floats("logits_f32/" + name);
  ASSERT_EQ(logits.size(), expected.size());
  double most = 0.0, squares = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double difference = std::abs(static_cast<double>(logits[i]) - static_cast<double>(expected[i]));
    ASSERT_FALSE(std::isnan(difference)) << i;
    most = std::max(most, difference);
    squares += difference * difference;
  }
  const double rms = std::sqrt(squares / static_cast<double>(logits.size()));
  double top64 = 0.0;
  const auto top_ids = prompt["top_ids"].get<std::vector<size_t>>();
  const auto top_logits = prompt["top_logits_f64"].get<std::vector<double>>();
  for (size_t i = 0; i < top_ids.size(); ++i) {
    top64 = std::max(top64, std::abs(static_cast<double>(logits[top_ids[i]]) - top_logits[i]));
  }
  const double nll = mean(scored->nll) - prompt["mean_nll_f64"].get<double>();
  std::printf("measured: %-9s %s/%-4s logits max %.2g rms %.2g top64 %.2g nll %+.2g\n", name.c_str(),
              std::string(math_name(mode.math)).c_str(), std::string(dtype_name(mode.kv)).c_str(), most, rms, top64,
              nll);
  const double tolerance = name == "long_kjv" ? mode.logits_long : mode.logits;
  EXPECT_LE(most, tolerance);
  EXPECT_LE(top64, std::min(mode.top64, tolerance));
  EXPECT_LE(rms, mode.rms);
  EXPECT_LE(std::abs(nll), mode.nll);
  const std::vector<float> losses = arrays.floats("nll_f32/" + name);
  ASSERT_EQ(losses.size(), scored->nll.size());
  for (size_t i = 0; i < losses.size(); ++i) {  // one loss moves by at most twice what a logit may
    ASSERT_LE(std::abs(scored->nll[i] - static_cast<double>(losses[i])), 2 * std::max(mode.logits_long, tolerance))
        << i;
  }
  if (mode.greedy) check_greedy(stream, prompt, logits, tolerance, mode.math == Math::f32 && mode.kv == DType::f32);
}

// The long prompt runs if `long_prompt`, and always with KVASS_LONG; under a sanitizer only the first prompt runs.
void check_all(const Mode& mode, bool long_prompt) {
  const nlohmann::json golden = *load_golden("gemma3_270m.json");
  ASSERT_EQ(golden["prompts"].size(), 5u);
  GoldenArrays arrays("gemma3_270m.safetensors");
  for (const nlohmann::json& prompt : golden["prompts"]) {
    if (prompt["name"] == "long_kjv" && !long_prompt && !long_tests()) continue;
    check_prompt(mode, prompt, arrays);
    if (kSanitized) return;
  }
}

#define KVASS_GEMMA_MODE(mode, long_prompt)     \
  TEST(GemmaGoldens, mode##IsWithinTolerance) { \
    KVASS_NEEDS_MODEL();                        \
    check_all(k##mode, long_prompt);            \
  }
KVASS_GEMMA_MODE(F32, false)
KVASS_GEMMA_MODE(F32F16, false)
KVASS_GEMMA_MODE(F32Bf16, false)
KVASS_GEMMA_MODE(A16F16, true)
KVASS_GEMMA_MODE(A16, false)
KVASS_GEMMA_MODE(A16Bf16, false)
KVASS_GEMMA_MODE(A8F16, false)
KVASS_GEMMA_MODE(A8, false)
KVASS_GEMMA_MODE(A8Bf16, false)

// hidden 00 is the scaled embedding, 01 to 17 the outputs of layers 0 to 16, 18 the last layer after the output norm.
TEST(GemmaGoldens, HiddenStatesOfEveryLayerAreWithinTolerance) {
  KVASS_NEEDS_MODEL();
  const nlohmann::json golden = *load_golden("gemma3_270m.json");
  GoldenArrays arrays("gemma3_270m.safetensors");
  const nlohmann::json& prompt = golden["prompts"][0];
  ASSERT_EQ(prompt["name"], "english");
  const auto ids = prompt["ids"].get<std::vector<int32_t>>();
  const OpenModel& model = golden_model(Math::f32);
  OpenStream stream = golden_stream(model, stream_options(kF32, ids.size()), static_cast<int64_t>(ids.size()));
  ASSERT_TRUE(stream.session);
  std::vector<std::vector<float>> hidden;
  stream.session->set_probe([&](const ProbeView& view) {
    const std::string& name = view.op.name;
    const bool layer = name.ends_with("ffn residual") && !name.starts_with("layer 17 ");
    if (!layer && view.op.kind != OpKind::embed && name != "output norm") return;
    hidden.emplace_back(view.data, view.data + view.rows * view.width);
  });
  const StepRun run{stream.sequence.get(), 0, ids};
  ASSERT_TRUE(stream.session->step({std::span(&run, 1)}).ok());
  std::vector<int32_t> rows;
  for (size_t i = 0; i < ids.size(); ++i) rows.push_back(static_cast<int32_t>(i));
  ASSERT_TRUE(stream.session->step({.logits = rows}).ok());
  ASSERT_EQ(hidden.size(), 19u);
  for (size_t layer = 0; layer < hidden.size(); ++layer) {
    char name[64];
    std::snprintf(name, sizeof name, "hidden_f32/english/%02zu", layer);
    SCOPED_TRACE(name);
    const std::vector<float> expected = arrays.floats(name);
    ASSERT_EQ(hidden[layer].size(), expected.size());
    double peak = 0.0, most = 0.0;
    for (size_t i = 0; i < expected.size(); ++i) {
      peak = std::max(peak, std::abs(static_cast<double>(expected[i])));
      most = std::max(most, std::abs(static_cast<double>(hidden[layer][i]) - static_cast<double>(expected[i])));
    }
    std::printf("measured: hidden %02zu peak %.3g relative %.2g\n", layer, peak, most / peak);
    EXPECT_LE(most, 1e-4 * peak);
  }
}

}  // namespace
}  // namespace kvass
