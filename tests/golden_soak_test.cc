// A long stream: KVASS_SOAK tokens of the King James Bible through one cache of 4 + 2044. Memory must not grow, and the
// losses must stay those of a new stream: for comparison, fresh streams that keep every key read the window before a
// bucket of text and then the bucket.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "golden_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr size_t kBucket = 2048;     // predictions
constexpr size_t kSettled = 10'000;  // tokens after which memory must not grow
constexpr int64_t kSinks = 4, kWindow = 2044;

size_t soak_tokens() {
  const char* value = std::getenv("KVASS_SOAK");
  return value == nullptr ? 0 : std::strtoull(value, nullptr, 10);
}

// The mean loss of predictions [begin, begin + kBucket) with the window before them in a cache that keeps everything.
double fresh_loss(const OpenModel& model, std::span<const int32_t> ids, size_t begin) {
  const size_t before = std::min(begin, static_cast<size_t>(kWindow));
  std::vector<int32_t> part = {model.tokenizer->bos()};
  const std::span<const int32_t> text = ids.subspan(begin - before + 1, before + kBucket);
  part.insert(part.end(), text.begin(), text.end());
  StreamOptions options;
  options.context = static_cast<int64_t>(part.size());
  const std::vector<double> nll = score_ids(model, options, part);
  return mean(std::span(nll).subspan(before, kBucket));
}

TEST(Soak, MemoryIsFlatAndTheStreamStaysAsGoodAsAFreshOne) {
  KVASS_NEEDS_MODEL();
  KVASS_NEEDS_KJV();
  const size_t tokens = soak_tokens();
  if (tokens == 0) GTEST_SKIP() << "set KVASS_SOAK to a number of tokens to run this test";
  ASSERT_GE(tokens, 10 * kBucket) << "KVASS_SOAK";
  const OpenModel& model = golden_model(Math::a16);
  std::vector<int32_t> ids = kjv_ids(*model.tokenizer, kjv_text().size());
  ASSERT_GE(ids.size(), tokens) << "the text is shorter";
  ids.resize(tokens);

  StreamOptions options;
  options.attention_sink = AttentionSink{kSinks, kWindow};
  OpenStream stream = golden_stream(model, options);
  ASSERT_TRUE(stream.session);
  size_t settled = 0, most = 0;
  const auto watch = [&](int64_t done) {
    const size_t now = resident_bytes();
    if (static_cast<size_t>(done) >= kSettled && settled == 0) settled = now;
    if (settled != 0) most = std::max(most, now);
  };
  const std::atomic<bool> cancel{false};
  const Result<ScoreResult> scored = score(stream, ids, 0, watch, cancel);
  ASSERT_TRUE(scored.ok()) << scored.status().message();
  std::printf("measured: %zu tokens, %.3f MiB more resident than after %zu, perplexity %.4f\n", tokens,
              static_cast<double>(most - settled) / 0x1p20, kSettled, std::exp(scored->mean_nll(0, tokens - 1)));
  if (!kSanitized) {
    EXPECT_LT(most - settled, size_t{1} << 20);
  }

  const size_t buckets = (tokens - 1) / kBucket, samples = std::min<size_t>(10, buckets - 1);
  std::vector<double> differences;
  for (size_t i = 0; i < samples; ++i) {
    const size_t begin = (1 + i * (buckets - 1) / samples) * kBucket;
    const double endless = scored->mean_nll(begin, begin + kBucket), fresh = fresh_loss(model, ids, begin);
    differences.push_back(endless - fresh);
    std::printf("measured: predictions from %zu: endless %.4f nats, fresh %.4f\n", begin, endless, fresh);
    std::fflush(stdout);
    EXPECT_LT(std::abs(differences.back()), 0.1) << begin;
  }
  const std::span<const double> all(differences);
  const double drift = mean(all.subspan(samples - samples / 2)) - mean(all.first(samples / 2));
  std::printf("measured: the second half is %+.4f nats from the first against fresh streams\n", drift);
  EXPECT_LT(drift, 0.03);
}

}  // namespace
}  // namespace kvass
