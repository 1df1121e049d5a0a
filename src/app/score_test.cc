// Scoring a text against the float64 reference.
#include "app/score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "app/test_jobs.h"
#include "reference_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

class Scores : public Jobs {};

TEST_F(Scores, ScoreIsTheReferencesLossWhateverTheChunk) {
  const TinyModel tiny;
  const std::vector<int32_t> tokens = tiny.tokens(70);
  const std::vector<ReferenceModel::Row> reference = ReferenceModel(tiny).run(tokens);
  std::vector<double> first;
  for (const int64_t chunk : {256, 7, 16, 1}) {
    StreamOptions options;
    options.chunk = chunk;
    options.kv = DType::f32;
    OpenStream scored = stream(options, kScoreHeadRows);
    const ScoreResult result = score(scored, tokens, 5, {}, never_).value();
    ASSERT_EQ(result.nll.size(), tokens.size() - 1);
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      double most = -INFINITY, sum = 0.0;
      for (double logit : reference[i]) most = std::max(most, logit);
      for (double logit : reference[i]) sum += std::exp(logit - most);
      const double expected = most + std::log(sum) - reference[i][static_cast<size_t>(tokens[i + 1])];
      EXPECT_NEAR(result.nll[i], expected, 2e-4) << i;
    }
    if (first.empty()) first = result.nll;
    EXPECT_EQ(first, result.nll);  // bit for bit
    ASSERT_EQ(result.top.size(), 5u);
    const auto best = std::max_element(reference.back().begin(), reference.back().end());
    EXPECT_EQ(result.top[0].first, best - reference.back().begin());
    for (size_t i = 1; i < 5; ++i) EXPECT_GE(result.top[i - 1].second, result.top[i].second);
  }
}

TEST_F(Scores, ScoreRefusesTooLittleAndTooMuchBeforeAnyWork) {
  StreamOptions options;
  options.context = 20;
  OpenStream scored = stream(options, kScoreHeadRows);
  expect_words(refusal(score(scored, TinyModel().tokens(1), 0, {}, never_)), {"at least 2 tokens"});
  expect_words(refusal(score(scored, TinyModel().tokens(21), 0, {}, never_)),
               {"20", "21", "CacheOptions.context", "CacheOptions.sinks"});
  EXPECT_EQ(scored.sequence->length(), 0);
  const std::atomic<bool> cancel{true};
  expect_words(refusal(score(scored, TinyModel().tokens(20), 0, {}, cancel)), {"interrupted"});
}

}  // namespace
}  // namespace kvass
