// Scaled rotary frequencies against 80 digits of mpmath, and parameters that are refused.
#include "kernels/kernel_test.h"
#include "kernels/rotary/rotary.h"

namespace kvass {
namespace {

RotaryParams params(int64_t head_dim, double base, double factor = 1.0, std::vector<float> divisors = {},
                    YarnParams yarn = {}) {
  RotaryParams params{head_dim, base, factor};
  params.divisors = std::move(divisors);
  params.yarn = yarn;
  return params;
}

std::vector<float> quarters(size_t count) {  // 1, 1.25, 1.5, …
  std::vector<float> divisors(count);
  for (size_t i = 0; i < count; ++i) divisors[i] = 1.0f + 0.25f * static_cast<float>(i);
  return divisors;
}

struct Expected {
  RotaryParams params;
  std::vector<std::pair<size_t, uint64_t>> turns;  // (pair, rint(f / 2π · 2^64))
};

void expect_turns(const std::vector<Expected>& table) {
  for (size_t i = 0; i < table.size(); ++i) {
    const Result<Rotary> rotary = make_rotary(table[i].params);
    ASSERT_TRUE(rotary.ok()) << rotary.status().message();
    ASSERT_EQ(rotary->turns.size(), static_cast<size_t>(table[i].params.head_dim / 2));
    for (const auto& [pair, turns] : table[i].turns) {
      EXPECT_EQ(rotary->turns[pair], turns) << "case " << i << ", pair " << pair;
    }
  }
}

TEST(RotaryScaling, DivisorsDivideTheFrequencyOfTheirPair) {
  expect_turns({
      {params(16, 10000.0, 1.0, {1.0f, 1.5f, 2.0f, 3.0f, 4.25f, 8.0f, 8.0f, 1.1f}),
       {{0, 0x28be60db9391054au},
        {1, 0x0896eab559201a53u},
        {2, 0x020984d7c760d9ddu},
        {3, 0x006df222aadb3484u},
        {4, 0x00188ac4e23ac4fbu},
        {6, 0x00014dc5a8d185aau},
        {7, 0x0002ff9f321d6378u}}},
      {params(64, 500000.0, 1.0, quarters(32)),
       {{0, 0x28be60db9391054au},
        {1, 0x15a14a2255ba0e13u},
        {8, 0x0082bf95a1d7ae30u},
        {12, 0x0013042d185ebce2u},
        {16, 0x0002f33d74ea2094u},
        {22, 0x0000319c9d7e1986u},
        {31, 0x000000eb72a6fa51u}}},
  });
}

TEST(RotaryScaling, YarnKeepsFastPairsInterpolatesSlowOnesAndBlendsBetween) {
  expect_turns({
      {params(128, 1e6, 4.0, {}, {32768.0}),
       {{0, 0x28be60db9391054au},
        {1, 0x20d53d2925f67455u},
        {16, 0x0149d66800919d8cu},
        {25, 0x002b1878a3d53b49u},
        {32, 0x000649f5a6c575adu},
        {43, 0x00003e1eab18554fu},
        {63, 0x000000d410c3fdf3u}}},
      {params(128, 1e4, 16.0, {}, {4096.0}),
       {{0, 0x28be60db9391054au},
        {16, 0x041309af8ec1b3bbu},
        {25, 0x00ea21d69c805d75u},
        {32, 0x003b2c1e63ea0117u},
        {43, 0x0003a7d8f045e003u},
        {63, 0x000013458e2f5902u}}},
      {params(64, 1e4, 2.5, {}, {2048.0, 16.0, 2.0, 0.5}),
       {{0, 0x1c8543cce74bea1bu},
        {1, 0x15632d1d4c81e9acu},
        {8, 0x02da20614a546436u},
        {16, 0x00318b570f19d742u},
        {22, 0x00076b5405a123fdu},
        {31, 0x00008e6df5331285u}}},
      {params(16, 1e4, 4.0, {1, 1, 1, 2, 2, 2, 2, 2}, {4096.0}),
       {{0, 0x28be60db9391054au},
        {2, 0x041309af8ec1b3bbu},
        {3, 0x0085ff1a403b2801u},
        {4, 0x0020984d7c760d9eu},
        {6, 0x00014dc5a8d185aau},
        {7, 0x0000698c4a3d9f3du}}},
      // A ramp that begins before the first pair, and a ramp of width 0.
      {params(16, 1e4, 4.0, {}, {64.0}),
       {{0, 0x28be60db9391054au},
        {1, 0x09a9c80c04441d9du},
        {2, 0x020984d7c760d9ddu},
        {4, 0x001a1371305e714bu},
        {7, 0x0000d318947b3e79u}}},
      {params(32, 1e4, 8.0, {}, {4.0}),
       {{0, 0x28be60db9391054au}, {1, 0x02dd2dd95d7f07e8u}, {4, 0x00826135f1d83677u}, {15, 0x00003b5aa02d0920u}}},
  });
}

TEST(RotaryScaling, WithoutExtrapolationYarnIsLinear) {
  const Rotary linear = make_rotary(params(64, 1e4, 4.0)).value();
  EXPECT_EQ(make_rotary(params(64, 1e4, 4.0, {}, {2048.0, 32.0, 1.0, 0.0}))->turns, linear.turns);
  EXPECT_NE(make_rotary(params(64, 1e4, 4.0, {}, {2048.0, 32.0, 1.0, 1.0}))->turns, linear.turns);
}

TEST(RotaryScaling, TheAmplitudeIsTheAttentionFactorTimesYarns) {
  RotaryParams p = params(64, 1e4, 4.0);
  EXPECT_EQ(make_rotary(p)->amplitude, 1.0);
  p.yarn.context = 2048.0;
  EXPECT_NEAR(make_rotary(p)->amplitude, 0.1 * std::log(4.0) + 1.0, 1e-15);
  p.attention_factor = 0.75;
  EXPECT_NEAR(make_rotary(p)->amplitude, 0.75 * (0.1 * std::log(4.0) + 1.0), 1e-15);
  p.factor = 0.5;
  EXPECT_EQ(make_rotary(p)->amplitude, 0.75);
}

TEST(RotaryScaling, TheAmplitudeMultipliesCosAndSinBeforeTheyAreRounded) {
  RotaryParams p = params(32, 1e4, 8.0);
  p.attention_factor = 1.25;
  const Rotary plain = make_rotary(params(32, 1e4, 8.0)).value(), larger = make_rotary(p).value();
  std::vector<float> cos(16), sin(16), large_cos(16), large_sin(16);
  for (const int64_t position : {0, 1, 77, 123456789}) {
    fill_rotary_row(plain, position, cos.data(), sin.data());
    fill_rotary_row(larger, position, large_cos.data(), large_sin.data());
    for (size_t i = 0; i < 16; ++i) {
      const long double angle = static_cast<long double>(static_cast<uint64_t>(position) * plain.turns[i]) * 0x1p-63L *
                                3.14159265358979323846264338327950288L;
      EXPECT_LE(test::ulps(large_cos[i], static_cast<double>(1.25L * std::cos(angle))), 0.500001);
      EXPECT_LE(test::ulps(large_sin[i], static_cast<double>(1.25L * std::sin(angle))), 0.500001);
      EXPECT_NEAR(large_cos[i], 1.25f * cos[i], 1e-6f);
    }
  }
}

TEST(RotaryScaling, BadScalingIsRefusedByName) {
  const auto refused = [](const RotaryParams& p, const char* words) {
    const Result<Rotary> rotary = make_rotary(p);
    ASSERT_FALSE(rotary.ok()) << words;
    EXPECT_NE(rotary.status().message().find(words), std::string::npos) << rotary.status().message();
  };
  const double nan = std::nan("");
  refused(params(16, 1e4, 1.0, {1, 1, 1}), "frequency factors");
  refused(params(4, 1e4, 1.0, {1.0f, 0.0f}), "frequency factor");
  refused(params(4, 1e4, 1.0, {1.0f, static_cast<float>(nan)}), "frequency factor");
  refused(params(16, 1e4, 4.0, {}, {-1.0}), "YaRN context");
  refused(params(16, 1e4, 4.0, {}, {nan}), "YaRN context");
  refused(params(16, 1e4, 4.0, {}, {2048.0, 0.0, 0.0}), "beta_fast");
  refused(params(16, 1e4, 4.0, {}, {2048.0, 1.0, 32.0}), "beta_slow");
  refused(params(16, 1e4, 4.0, {}, {2048.0, 32.0, 1.0, 1.5}), "extrapolation");
  refused(params(16, 1.0, 4.0, {}, {2048.0}), "base");
  RotaryParams p = params(16, 1e4);
  p.attention_factor = 0.0;
  refused(p, "attention factor");
}

}  // namespace
}  // namespace kvass
