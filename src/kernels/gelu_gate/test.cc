#include "kernels/gelu_gate/gelu_gate.h"
#include "kernels/kernel_test.h"

namespace kvass {
namespace {

TEST(GeluGate, EveryIsaHasTheBitsOfTheReferenceAlsoInPlace) {
  test::Random random(1);
  for (size_t n = 0; n < 200; ++n) {
    const std::vector<float> gate = test::awkward_row(random, n, 4.0f);
    const std::vector<float> up = test::awkward_row(random, n);
    std::vector<float> expected(n, 0.0f);
    scalar::gelu_gate(gate.data(), up.data(), expected.data(), static_cast<int64_t>(n));
    for (const Isa isa : test::fast_isas()) {
      std::vector<float> y = gate;
      gelu_gate_for(isa)(y.data(), up.data(), y.data(), static_cast<int64_t>(n));
      EXPECT_TRUE(test::same_bits(y, expected)) << isa_name(isa) << " n " << n;
      y = up;
      gelu_gate_for(isa)(gate.data(), y.data(), y.data(), static_cast<int64_t>(n));
      EXPECT_TRUE(test::same_bits(y, expected)) << isa_name(isa) << " n " << n;
    }
  }
}

TEST(GeluGate, IsCloseToFloat64) {
  // The error is that of the exponent z = -2u (three roundings): 3 + |z| ulps of the result, and nothing cancels.
  const double root = std::sqrt(2.0 / std::acos(-1.0));
  const float one = 1.0f;
  for (float x = -9.0f; x <= 9.0f; x += 0x1.1p-12f) {
    float y;
    scalar::gelu_gate(&x, &one, &y, 1);
    const double u = root * (x + 0.044715 * std::pow(static_cast<double>(x), 3));
    const double exact = x / (1.0 + std::exp(-2.0 * u));
    if (std::abs(exact) > 1e-37) {
      EXPECT_LE(test::ulps(y, exact), 3.0 + 2.0 * std::abs(2.0 * u)) << x;
    }
    EXPECT_LE(std::abs(y - exact), 0x1p-23 * std::max(1.0, 1.5 * std::abs(exact))) << x;
  }
}

TEST(GeluGate, HasTheLimitsOfTheFormula) {
  const float inputs[] = {0.0f,
                          -0.0f,
                          1e30f,
                          -1e30f,
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()};
  const float ones[] = {1, 1, 1, 1, 1, 1, 1};
  float y[7];
  scalar::gelu_gate(inputs, ones, y, 7);
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(y[1], 0.0f);
  EXPECT_EQ(y[2], 1e30f);
  EXPECT_EQ(y[3], 0.0f);
  EXPECT_EQ(y[4], inputs[4]);
  EXPECT_TRUE(std::isnan(y[5]));
  EXPECT_TRUE(std::isnan(y[6]));
}

}  // namespace
}  // namespace kvass
