#include "kernels/gate/gate.h"
#include "kernels/kernel_test.h"

namespace kvass {
namespace {

struct Gate {
  const char* name;
  GateKernel reference;
  GateKernel (*kernel_for)(Isa);
};
const Gate kGates[] = {{"gelu_gate", scalar::gelu_gate, gelu_gate_for},
                       {"silu_gate", scalar::silu_gate, silu_gate_for}};

TEST(Gate, EveryIsaHasTheBitsOfTheReferenceAlsoInPlace) {
  for (const Gate& tested : kGates) {
    SCOPED_TRACE(tested.name);
    test::Random random(1);
    for (size_t n = 0; n < 200; ++n) {
      const std::vector<float> gate = test::awkward_row(random, n, 4.0f);
      const std::vector<float> up = test::awkward_row(random, n);
      std::vector<float> expected(n, 0.0f);
      tested.reference(gate.data(), up.data(), expected.data(), static_cast<int64_t>(n));
      for (const Isa isa : test::fast_isas()) {
        std::vector<float> y = gate;
        tested.kernel_for(isa)(y.data(), up.data(), y.data(), static_cast<int64_t>(n));
        EXPECT_TRUE(test::same_bits(y, expected)) << isa_name(isa) << " n " << n;
        y = up;
        tested.kernel_for(isa)(gate.data(), y.data(), y.data(), static_cast<int64_t>(n));
        EXPECT_TRUE(test::same_bits(y, expected)) << isa_name(isa) << " n " << n;
      }
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

TEST(SiluGate, IsWithinThreeUlpOfFloat64) {
  // exp has an error of 0.9 ulp, the sum and the division of half an ulp each; nothing cancels.
  const float one = 1.0f;
  for (float x = -87.0f; x <= 87.0f; x += 0x1.1p-9f) {
    float y;
    scalar::silu_gate(&x, &one, &y, 1);
    EXPECT_LE(test::ulps(y, x / (1.0 + std::exp(-static_cast<double>(x)))), 3.0) << x;
  }
  for (float x = 0x1p-60f; x < 1.0f; x *= 1.37f) {
    float y;
    scalar::silu_gate(&x, &one, &y, 1);
    EXPECT_LE(test::ulps(y, x / (1.0 + std::exp(-static_cast<double>(x)))), 3.0) << x;
  }
}

TEST(Gate, HasTheLimitsOfTheFormulas) {
  using Limits = std::numeric_limits<float>;
  const float inputs[] = {0.0f, -0.0f, 1e30f, -1e30f, Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()};
  const float twos[] = {2, 2, 2, 2, 2, 2, 2};
  for (const Gate& tested : kGates) {
    SCOPED_TRACE(tested.name);
    float y[7];
    tested.reference(inputs, twos, y, 7);
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_EQ(y[1], 0.0f);
    EXPECT_EQ(y[2], 2e30f);
    EXPECT_EQ(y[3], 0.0f);
    EXPECT_EQ(y[4], inputs[4]);
    EXPECT_TRUE(std::isnan(y[5]));
    EXPECT_TRUE(std::isnan(y[6]));
  }
}

}  // namespace
}  // namespace kvass
