#include <algorithm>

#include "kernels/functions64.h"
#include "kernels/kernel_test.h"
#include "ops/loss/loss.h"

namespace kvass {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(CrossEntropy, IsWithin500EpsilonOfExtendedPrecision) {
  test::Random random(1);
  for (const int64_t vocabulary : {1, 2, 15, 16, 17, 1000, 262144}) {
    const int64_t stride = vocabulary + 3;
    const std::vector<float> logits = test::random_row(random, static_cast<size_t>(2 * stride), 8.0f);
    const std::vector<int32_t> targets = {0, static_cast<int32_t>(vocabulary - 1)};
    std::vector<double> losses(2);
    cross_entropy({logits.data(), targets.data(), losses.data(), 2, vocabulary, stride}, Isa::scalar);
    for (int row = 0; row < 2; ++row) {
      const float* x = logits.data() + row * stride;
      long double sum = 0.0L;
      for (int64_t i = 0; i < vocabulary; ++i) sum += std::exp(static_cast<long double>(x[i]));
      const long double exact = std::log(sum) - x[targets[row]];
      // A lane adds 16,384 terms at 262,144 logits; their roundings are most of the error.
      EXPECT_LE(std::abs(losses[row] - exact), 500 * 0x1p-52L * std::max(1.0L, std::abs(exact))) << vocabulary;
    }
  }
}

TEST(CrossEntropy, FollowsTheWrittenOrderOnEveryIsa) {
  test::Random random(2);
  const int64_t n = 1003;
  const std::vector<float> x = test::random_row(random, n, 5.0f);
  const double maximum = *std::max_element(x.begin(), x.end());
  double lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % 16] += exp64(x[i] - maximum);
  for (int half = 8; half >= 1; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  const double expected = maximum + log64(lanes[0]);
  EXPECT_EQ(log_sum_exp(x.data(), n, Isa::scalar), expected);
  for (const Isa isa : test::fast_isas()) EXPECT_EQ(log_sum_exp(x.data(), n, isa), expected) << isa_name(isa);
}

TEST(CrossEntropy, HandlesInfiniteAndMissingLogits) {
  const double inf = std::numeric_limits<double>::infinity();
  const float masked[] = {-kInfinity, 1.0f, -kInfinity};
  const int32_t targets[] = {1, 0};
  double losses[2];
  const CrossEntropyArgs args{masked, targets, losses, 2, 3, 0};
  cross_entropy(args, Isa::scalar);
  EXPECT_EQ(losses[0], 0.0);
  EXPECT_EQ(losses[1], inf);
  const float nothing[] = {-kInfinity, -kInfinity};
  EXPECT_EQ(log_sum_exp(nothing, 2, Isa::scalar), -inf);
  const float nan[] = {1.0f, std::nanf(""), 2.0f};
  EXPECT_TRUE(std::isnan(log_sum_exp(nan, 3, Isa::scalar)));
  const float infinite[] = {1.0f, kInfinity};
  EXPECT_TRUE(std::isnan(log_sum_exp(infinite, 2, Isa::scalar)));
}

TEST(CrossEntropy, DoesNotOverflowOnLargeLogits) {
  const float x[] = {3e38f, 3e38f, -3e38f};
  EXPECT_EQ(log_sum_exp(x, 3, Isa::scalar), static_cast<double>(3e38f));
}

}  // namespace
}  // namespace kvass
