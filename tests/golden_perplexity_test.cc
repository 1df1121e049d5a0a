// Perplexity as measured by llama.cpp's llama-perplexity, against float32 PyTorch (perplexity.json): chunks of 2048 ids
// whose first id is replaced by BOS, scored from position 1024 on.
#include <gtest/gtest.h>

#include <cmath>

#include "golden_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr size_t kContext = 2048;

// The mean −ln p of predictions 1024 … 2046 of a chunk.
double chunk_nll(const OpenModel& model, Math math, DType kv, const std::vector<int32_t>& ids, size_t chunk) {
  std::vector<int32_t> part(ids.begin() + static_cast<int64_t>(chunk * kContext),
                            ids.begin() + static_cast<int64_t>((chunk + 1) * kContext));
  part[0] = model.tokenizer->bos();
  StreamOptions options;
  options.context = kContext;
  options.math = math;
  options.kv = kv;
  const std::vector<double> nll = score_ids(model, options, part);
  return nll.size() == kContext - 1 ? mean(std::span(nll).subspan(1024)) : 0.0;
}

// Relative difference of the running perplexity from float32 torch after each of `chunks` chunks.
std::vector<double> running_differences(Math math, DType kv, size_t chunks) {
  const nlohmann::json golden = *load_golden("perplexity.json");
  const auto expected = golden["running_ppl_torch_f32"].get<std::vector<double>>();
  const OpenModel& model = golden_model(math);
  const std::vector<int32_t> ids = kjv_ids(*model.tokenizer, 60000);
  EXPECT_EQ(ids.size(), golden["n_text_tokens"].get<size_t>());
  std::vector<double> differences;
  double sum = 0.0;
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    sum += chunk_nll(model, math, kv, ids, chunk);
    const double ppl = std::exp(sum / static_cast<double>(chunk + 1));
    differences.push_back(ppl / expected[chunk] - 1.0);
    std::printf("measured: perplexity %s/%s after chunk %zu: %.6f, torch %.6f, %+.4f %%\n",
                std::string(math_name(math)).c_str(), std::string(dtype_name(kv)).c_str(), chunk, ppl, expected[chunk],
                100.0 * differences.back());
  }
  return differences;
}

TEST(PerplexityGoldens, A16IsWithinATenthOfAPercentOfFloat32) {
  KVASS_NEEDS_MODEL();
  KVASS_NOT_SANITIZED();
  KVASS_NEEDS_KJV();
  for (const double difference : running_differences(Math::a16, DType::f16, long_tests() ? 4 : 1)) {
    EXPECT_LE(std::abs(difference), 1e-3);
  }
}

TEST(PerplexityGoldens, Float32ArithmeticIsWithinItsTolerances) {
  KVASS_NEEDS_MODEL();
  KVASS_NEEDS_KJV();
  if (!long_tests()) GTEST_SKIP() << "set KVASS_LONG=1 to run this test";
  for (const double difference : running_differences(Math::f32, DType::f32, 4)) EXPECT_LE(std::abs(difference), 5e-4);
  for (const double difference : running_differences(Math::f32, DType::f16, 4)) EXPECT_LE(std::abs(difference), 2e-3);
}

TEST(PerplexityGoldens, EightBitActivationsCostNoMoreThanLlamaCpps) {
  KVASS_NEEDS_MODEL();
  KVASS_NEEDS_KJV();
  if (!long_tests()) GTEST_SKIP() << "set KVASS_LONG=1 to run this test";
  const std::vector<double> differences = running_differences(Math::a8, DType::f16, 4);
  EXPECT_LE(std::abs(differences[0]), 2.5e-2);
  EXPECT_LE(std::abs(differences[3]), 1.2e-2);
}

}  // namespace
}  // namespace kvass
