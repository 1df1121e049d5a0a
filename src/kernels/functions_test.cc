#include "kernels/functions.h"

#include <bit>
#include <cmath>

#include "kernels/functions64.h"
#include "kernels/kernel_test.h"
#include "kernels/simd/scalar.h"

namespace kvass {
namespace {

using scalar::V;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Calls body(x) for every 251st float of both signs, NaN left out.
template <class Body>
void for_many_floats(Body body) {
  for (uint32_t bits = 0; bits <= 0x7f800000u; bits += 251) {
    body(std::bit_cast<float>(bits));
    body(std::bit_cast<float>(bits | 0x80000000u));
  }
}

TEST(Functions, ExpIsWithinOneUlp) {
  double worst = 0.0;
  for_many_floats([&](float x) {
    const double exact = std::exp(static_cast<double>(x));
    if (x < -87.0f || x > 88.72283f) return;
    worst = std::max(worst, test::ulps(exp<V>(x), exact));
  });
  EXPECT_LE(worst, 0.9);
}

TEST(Functions, ExpHasItsFixedPointsAndEdges) {
  EXPECT_EQ(exp<V>(0.0f), 1.0f);
  EXPECT_EQ(exp<V>(-0.0f), 1.0f);
  EXPECT_GT(exp<V>(-87.0f), std::numeric_limits<float>::min());
  for (const float x : {std::nextafter(-87.0f, -kInfinity), -100.0f, -1e30f, -kInfinity}) {
    EXPECT_EQ(std::bit_cast<uint32_t>(exp<V>(x)), 0u) << x;
  }
  EXPECT_TRUE(std::isfinite(exp<V>(0x1.62e42ep+6f)));
  for (const float x : {0x1.62e43p+6f, 89.0f, 1e30f, kInfinity}) EXPECT_EQ(exp<V>(x), kInfinity) << x;
  for (const uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7fc00001u, 0x7fffffffu, 0xffffffffu}) {
    EXPECT_TRUE(std::isnan(exp<V>(std::bit_cast<float>(bits))));
    EXPECT_TRUE(std::isnan(exp_nonpositive<V>(std::bit_cast<float>(bits))));
  }
}

TEST(Functions, ExpOfNonPositiveNumbersHasTheBitsOfExp) {
  for_many_floats([](float x) {
    if (x <= 0.0f) {
      ASSERT_EQ(std::bit_cast<uint32_t>(exp<V>(x)), std::bit_cast<uint32_t>(exp_nonpositive<V>(x))) << x;
    }
  });
}

TEST(Functions, TanhIsWithinTwoAndAHalfUlpAlsoForTinyNumbers) {
  double worst = 0.0;
  for_many_floats([&](float x) { worst = std::max(worst, test::ulps(tanh<V>(x), std::tanh(static_cast<double>(x)))); });
  EXPECT_LE(worst, 2.5);
}

TEST(Functions, TanhIsOddAndSaturates) {
  for_many_floats([](float x) {
    ASSERT_EQ(std::bit_cast<uint32_t>(tanh<V>(-x)), std::bit_cast<uint32_t>(-tanh<V>(x))) << x;
    ASSERT_LE(std::abs(tanh<V>(x)), 1.0f) << x;
    if (std::abs(x) >= 9.02f) {
      ASSERT_EQ(std::abs(tanh<V>(x)), 1.0f) << x;
    }
  });
  EXPECT_EQ(std::bit_cast<uint32_t>(tanh<V>(-0.0f)), 0x80000000u);
  EXPECT_EQ(tanh<V>(std::numeric_limits<float>::denorm_min()), std::numeric_limits<float>::denorm_min());
  EXPECT_TRUE(std::isnan(tanh<V>(kNan)));
}

TEST(Functions, ErfIsWithinOneAndAHalfUlpAndSaturates) {
  double worst = 0.0;
  for_many_floats([&](float x) {
    worst = std::max(worst, test::ulps(erf<V>(x), std::erf(static_cast<double>(x))));
    ASSERT_LE(std::abs(erf<V>(x)), 1.0f) << x;
    ASSERT_EQ(std::signbit(erf<V>(x)), std::signbit(x)) << x;
  });
  EXPECT_LE(worst, 1.5);
  EXPECT_EQ(erf<V>(3.92f), 1.0f);
  EXPECT_TRUE(std::isnan(erf<V>(kNan)));
}

TEST(Functions, SoftcapIsTheIdentityNearZeroAndBoundedByItsCap) {
  EXPECT_NEAR(softcap<V>(0.01f, 50.0f), 0.01f, 1e-8f);
  EXPECT_EQ(softcap<V>(1e9f, 30.0f), 30.0f);
  EXPECT_EQ(softcap<V>(-kInfinity, 30.0f), -30.0f);
}

TEST(Functions64, ExpIsWithinOneUlp) {
  test::Random random(11);
  std::uniform_real_distribution<double> uniform(-708.0, 709.0);
  std::normal_distribution<double> normal;
  long double worst = 0.0L;
  for (int i = 0; i < 2000000; ++i) {
    const double x = i % 2 == 0 ? uniform(random) : normal(random);
    const long double exact = std::exp(static_cast<long double>(x));
    worst = std::max(worst, std::abs(exp64(x) - exact) / std::ldexp(1.0L, std::ilogb(exact) - 52));
  }
  EXPECT_LE(worst, 1.0L);
  EXPECT_EQ(exp64(0.0), 1.0);
  EXPECT_EQ(exp64(-708.1), 0.0);
  EXPECT_EQ(exp64(-std::numeric_limits<double>::infinity()), 0.0);
  EXPECT_EQ(exp64(709.79), std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(exp64(std::numeric_limits<double>::quiet_NaN())));
}

TEST(Functions64, FourLanesHaveTheBitsOfOne) {
  test::Random random(13);
  std::uniform_real_distribution<double> uniform(-720.0, 720.0);
  for (int i = 0; i < 100000; ++i) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const Double4 x = {uniform(random), uniform(random) / 100.0, i % 2 == 0 ? -INFINITY : INFINITY, nan};
    const Double4 y = exp64(x);
    for (int lane = 0; lane < 3; ++lane) ASSERT_EQ(y[lane], exp64(static_cast<double>(x[lane]))) << x[lane];
    ASSERT_TRUE(std::isnan(y[3]));
  }
}

TEST(Functions64, LogIsWithinNineTenthsUlp) {
  test::Random random(12);
  long double worst = 0.0L;
  std::uniform_real_distribution<double> near_one(0.5, 2.0);
  for (int i = 0; i < 2000000; ++i) {
    const uint64_t bits = 0x0010000000000000u + random() % (0x7ff0000000000000u - 0x0010000000000000u);
    const double x = i % 2 == 0 ? std::bit_cast<double>(bits) : near_one(random);
    const long double exact = std::log(static_cast<long double>(x));
    worst = std::max(worst, std::abs(log64(x) - exact) / std::ldexp(1.0L, std::ilogb(exact) - 52));
  }
  EXPECT_LE(worst, 0.9L);
  EXPECT_EQ(log64(1.0), 0.0);
  EXPECT_EQ(log64(0.0), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(log64(std::numeric_limits<double>::infinity()), std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(log64(-1.0)));
}

}  // namespace
}  // namespace kvass
