// Streams longer than their caches against float32 PyTorch (streaming.json): losses in buckets of 2048 predictions
// along the King James Bible. `slm:W` is StreamingLLM at in-cache positions, `sink:W` sinks at original positions,
// `mod:W` at wrapped ones, `win:W` a window without sinks, `dense` all keys.
//
// Tolerance for a bucket: 0.003 nats for f16 caches (the goldens' README), and 0.001 more for 16-bit activations.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "golden_model.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests

constexpr size_t kBucket = 2048;  // predictions
constexpr double kTolerance = 0.003 + 0.001;

struct Policy {
  std::string name;
  std::optional<AttentionSink> sinks;
  SinkPositions positions = SinkPositions::in_cache;
};
// A window of W keys includes the query's own; the sinks are additional.
const std::vector<Policy> kPolicies = {{"dense", {}},
                                       {"slm:512", AttentionSink{4, 512}},
                                       {"slm:2048", AttentionSink{4, 2048}},
                                       {"sink:512", AttentionSink{4, 512}, SinkPositions::original},
                                       {"sink:2048", AttentionSink{4, 2048}, SinkPositions::original},
                                       {"mod:512", AttentionSink{4, 512}, SinkPositions::wrapped},
                                       {"mod:2048", AttentionSink{4, 2048}, SinkPositions::wrapped},
                                       {"win:512", AttentionSink{0, 512}},
                                       {"win:2048", AttentionSink{0, 2048}}};

std::vector<double> bucket_losses(const Policy& policy, Math math, DType kv, size_t buckets) {
  const OpenModel& model = golden_model(math);
  // Enough text for the ids; the rest of the book would only be tokenised.
  std::vector<int32_t> ids = kjv_ids(*model.tokenizer, buckets * kBucket * 8);
  const auto first = (*load_golden("streaming.json"))["kjv"]["first_ids"].get<std::vector<int32_t>>();
  EXPECT_TRUE(std::equal(first.begin(), first.end(), ids.begin()));
  EXPECT_GT(ids.size(), buckets * kBucket + 64);
  ids.resize(buckets * kBucket + 1);
  StreamOptions options;
  options.math = math;
  options.kv = kv;
  options.attention_sink = policy.sinks;
  options.sink_positions = policy.positions;
  if (!policy.sinks) options.context = static_cast<int64_t>(ids.size());
  const std::vector<double> nll = score_ids(model, options, ids);
  std::vector<double> losses;
  for (size_t at = 0; at + kBucket <= nll.size(); at += kBucket)
    losses.push_back(mean(std::span(nll).subspan(at, kBucket)));
  return losses;
}

std::vector<double> golden_losses(const Policy& policy) {
  return (*load_golden("streaming.json"))["kjv"]["policies"][policy.name]["nll_buckets"].get<std::vector<double>>();
}

void expect_near(const Policy& policy, Math math, DType kv, const std::vector<double>& losses, double tolerance) {
  const std::vector<double> expected = golden_losses(policy);
  ASSERT_LE(losses.size(), expected.size());
  double most = 0.0;
  for (size_t i = 0; i < losses.size(); ++i) {
    EXPECT_NEAR(losses[i], expected[i], tolerance) << policy.name << ", bucket " << i;
    most = std::max(most, std::abs(losses[i] - expected[i]));
  }
  std::printf("measured: %-8s %s/%s %zu buckets, max difference %.5f nats\n", policy.name.c_str(),
              std::string(math_name(math)).c_str(), std::string(dtype_name(kv)).c_str(), losses.size(), most);
  std::fflush(stdout);
}

void check_policy(const Policy& policy, Math math, DType kv, size_t buckets, double tolerance) {
  const std::vector<double> losses = bucket_losses(policy, math, kv, buckets);
  ASSERT_EQ(losses.size(), buckets);
  expect_near(policy, math, kv, losses, tolerance);
}

TEST(StreamingGoldens, FirstBucketsAreWithinTolerance) {
  KVASS_NEEDS_MODEL();
  KVASS_NOT_SANITIZED();
  KVASS_NEEDS_KJV();
  // 2048 predictions are four windows of 512; windows of 2048 and `dense` see the same keys until then.
  for (const Policy& policy : kPolicies) {
    if (policy.name == "win:2048" || policy.name == "dense") continue;
    check_policy(policy, Math::a16, DType::f16, 1, kTolerance);
  }
}

// The 12 buckets of a policy, run once for all tests of this program.
const std::vector<double>& all_losses(const Policy& policy) {
  static std::map<std::string, std::vector<double>> losses;
  std::vector<double>& found = losses[policy.name];
  if (found.empty()) found = bucket_losses(policy, Math::a16, DType::f16, 12);
  return found;
}

class StreamingPolicy : public ::testing::TestWithParam<size_t> {};

TEST_P(StreamingPolicy, AllBucketsAreWithinTolerance) {
  KVASS_NEEDS_MODEL();
  KVASS_NEEDS_KJV();
  if (!long_tests()) GTEST_SKIP() << "set KVASS_LONG=1 to run this test";
  const Policy& policy = kPolicies[GetParam()];
  expect_near(policy, Math::a16, DType::f16, all_losses(policy), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Policies, StreamingPolicy, ::testing::Range<size_t>(0, 9));

TEST(StreamingGoldens, PoliciesAreInTheRequiredOrderAfter4096) {
  KVASS_NEEDS_MODEL();
  KVASS_NEEDS_KJV();
  if (!long_tests()) GTEST_SKIP() << "set KVASS_LONG=1 to run this test";
  std::map<std::string, double> after_4096;
  for (const Policy& policy : kPolicies) after_4096[policy.name] = mean(std::span(all_losses(policy)).subspan(2));
  for (const char* window : {"512", "2048"}) {
    const auto loss = [&](const char* policy) { return after_4096.at(std::string(policy) + ":" + window); };
    EXPECT_LT(after_4096["dense"], loss("slm")) << window;
    EXPECT_LE(loss("slm"), loss("sink")) << window;
    EXPECT_LT(loss("sink"), loss("mod")) << window;
    EXPECT_LT(loss("mod"), loss("win")) << window;
  }
}

// The losses of a stream many tokens later: in-cache positions stay good, original positions do not.
TEST(StreamingGoldens, LossesOfLaterStreamsAreWithinTolerance) {
  KVASS_NEEDS_MODEL();
  KVASS_NEEDS_KJV();
  if (!long_tests()) GTEST_SKIP() << "set KVASS_LONG=1 to run this test";
  const OpenModel& model = golden_model(Math::a16);
  const nlohmann::json results = (*load_golden("streaming.json"))["position_offset"]["results"];
  size_t rows = 0;
  for (const auto& [name, golden] : results.items()) {
    std::array<char, 8> kind{};
    long long window = 0, sink = 0, offset = 0;
    if (std::sscanf(name.c_str(), "%7[a-z]:%lld:%lld:%lld", kind.data(), &window, &sink, &offset) != 4) continue;
    const size_t from = golden["scored_from"].get<size_t>(),
                 count = golden["n"].get<size_t>();  // predictions [from, n)
    std::vector<int32_t> ids = kjv_ids(*model.tokenizer, count * 8);
    ids.resize(count + 1);
    StreamOptions options;
    options.attention_sink = AttentionSink{sink, window};
    options.sink_positions = std::string_view(kind.data()) == "slm" ? SinkPositions::in_cache : SinkPositions::original;
    options.rotary_offset = offset;
    const std::vector<double> nll = score_ids(model, options, ids);
    ASSERT_EQ(nll.size(), count);
    const double loss = mean(std::span(nll).subspan(from));
    EXPECT_NEAR(loss, golden["mean_nll"].get<double>(), kTolerance) << name;
    std::printf("measured: %-22s nll %.5f (golden %.5f), perplexity %.3f\n", name.c_str(), loss,
                golden["mean_nll"].get<double>(), std::exp(loss));
    std::fflush(stdout);
    ++rows;
  }
  EXPECT_EQ(rows, 8u);
}

TEST(StreamingGoldens, Float32ArithmeticIsWithinItsTolerance) {
  KVASS_NEEDS_MODEL();
  KVASS_NEEDS_KJV();
  if (!long_tests()) GTEST_SKIP() << "set KVASS_LONG=1 to run this test";
  check_policy(kPolicies[1], Math::f32, DType::f32, 12, 0.002);
  check_policy(kPolicies[1], Math::f32, DType::f16, 2, 0.003);
  check_policy(kPolicies[1], Math::a8, DType::f16, 12, 0.03);
}

}  // namespace
}  // namespace kvass
