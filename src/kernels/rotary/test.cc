#include "kernels/kernel_test.h"
#include "kernels/rotary/rotary.h"
#include "kernels/rotary/rotate_row.h"

namespace kvass {
namespace {

constexpr double kPi = 3.14159265358979323846;

TEST(Rotary, TurnsAreTheNearestFractions) {
  struct Expected {
    int64_t head_dim;
    double base, factor;
    size_t pair;
    uint64_t turns;  // rint(base^(-2 pair / head_dim) / factor / 2π · 2^64), 80 digits of mpmath
  };
  const Expected table[] = {
      {256, 10000.0, 1.0, 0, 0x28be60db9391054au},     {256, 10000.0, 1.0, 1, 0x25ea37ed9a11aa75u},
      {256, 10000.0, 1.0, 2, 0x234855e55644662fu},     {256, 10000.0, 1.0, 65, 0x00610feb56054bf2u},
      {256, 10000.0, 1.0, 127, 0x00011ef075aa54e9u},   {256, 1000000.0, 1.0, 0, 0x28be60db9391054au},
      {256, 1000000.0, 1.0, 1, 0x2493376812a0b9a4u},   {256, 1000000.0, 1.0, 2, 0x20d53d2925f67455u},
      {256, 1000000.0, 1.0, 65, 0x00095cfbc087d73au},  {256, 1000000.0, 1.0, 127, 0x000002f9794e242fu},
      {256, 1000000.0, 8.0, 0, 0x0517cc1b727220a9u},   {256, 1000000.0, 8.0, 1, 0x049266ed02541734u},
      {256, 1000000.0, 8.0, 2, 0x041aa7a524bece8bu},   {256, 1000000.0, 8.0, 65, 0x00012b9f7810fae7u},
      {256, 1000000.0, 8.0, 127, 0x0000005f2f29c486u}, {128, 500000.0, 1.0, 0, 0x28be60db9391054au},
      {128, 500000.0, 1.0, 1, 0x2130c415f3514ea0u},    {128, 500000.0, 1.0, 2, 0x1b099caaeb289198u},
      {128, 500000.0, 1.0, 33, 0x000c042869c904d7u},   {128, 500000.0, 1.0, 63, 0x0000068e3fbde7a8u},
      {96, 10000000.0, 2.5, 0, 0x104c26be3b06ceebu},   {96, 10000000.0, 2.5, 1, 0x0ba6218a85251349u},
      {96, 10000000.0, 2.5, 2, 0x08538a1d45dcbdedu},   {96, 10000000.0, 2.5, 25, 0x0000f16a9622985du},
      {96, 10000000.0, 2.5, 47, 0x0000002640f1bb74u},
  };
  for (const Expected& e : table) {
    const Result<Rotary> rotary = make_rotary({e.head_dim, e.base, e.factor});
    ASSERT_TRUE(rotary.ok());
    EXPECT_EQ(rotary.value().turns[e.pair], e.turns) << "base " << e.base << " pair " << e.pair;
  }
}

TEST(Rotary, AnglesAreExactAtAnyPosition) {
  struct Expected {
    double base;
    size_t pair;
    int64_t position;
    float cos, sin;  // of position · turns mod 2^64, 80 digits of mpmath, rounded to float
  };
  const Expected table[] = {
      {10000.0, 0, 1ll, 0x1.14a2800000000p-1f, 0x1.aed5480000000p-1f},
      {10000.0, 0, 511ll, -0x1.e2ffca0000000p-2f, 0x1.c377680000000p-1f},
      {10000.0, 0, 1000003ll, -0x1.c187720000000p-1f, 0x1.ea2c820000000p-2f},
      {10000.0, 0, 1099511640121ll, -0x1.0293640000000p-1f, 0x1.b9e86c0000000p-1f},
      {10000.0, 0, 4611686019415042225ll, 0x1.4b68580000000p-6f, -0x1.ffe52e0000000p-1f},
      {10000.0, 0, -77ll, -0x1.fb7eb40000000p-6f, -0x1.ffc11c0000000p-1f},
      {10000.0, 1, 1ll, 0x1.31db2e0000000p-1f, 0x1.9a9abc0000000p-1f},
      {10000.0, 1, 511ll, -0x1.a9ebac0000000p-2f, -0x1.d19bf40000000p-1f},
      {10000.0, 1, 1000003ll, -0x1.b976ae0000000p-1f, -0x1.0355640000000p-1f},
      {10000.0, 1, 1099511640121ll, -0x1.cb071c0000000p-1f, 0x1.c598c40000000p-2f},
      {10000.0, 1, 4611686019415042225ll, 0x1.e49bec0000000p-1f, -0x1.4a71460000000p-2f},
      {10000.0, 1, -77ll, -0x1.a5d2cc0000000p-1f, -0x1.2230180000000p-1f},
      {10000.0, 37, 1ll, 0x1.fec0fe0000000p-1f, 0x1.1d99780000000p-4f},
      {10000.0, 37, 511ll, -0x1.cf00020000000p-2f, -0x1.c8acb60000000p-1f},
      {10000.0, 37, 1000003ll, -0x1.322e820000000p-1f, 0x1.9a5c9c0000000p-1f},
      {10000.0, 37, 1099511640121ll, 0x1.5db4a20000000p-1f, -0x1.75f7180000000p-1f},
      {10000.0, 37, 4611686019415042225ll, 0x1.aa3e5a0000000p-1f, -0x1.1ba7cc0000000p-1f},
      {10000.0, 37, -77ll, 0x1.3a484a0000000p-1f, 0x1.9430f80000000p-1f},
      {10000.0, 127, 1ll, 0x1.0000000000000p+0f, 0x1.c2b9240000000p-14f},
      {10000.0, 127, 511ll, 0x1.ff3a700000000p-1f, 0x1.c19de80000000p-5f},
      {10000.0, 127, 1000003ll, 0x1.98895a0000000p-1f, 0x1.349ce60000000p-1f},
      {10000.0, 127, 1099511640121ll, 0x1.6d6b980000000p-1f, -0x1.66a00c0000000p-1f},
      {10000.0, 127, 4611686019415042225ll, 0x1.fcd80e0000000p-1f, 0x1.c6167e0000000p-4f},
      {10000.0, 127, -77ll, 0x1.fffb840000000p-1f, -0x1.0f22940000000p-7f},
      {1000000.0, 0, 1ll, 0x1.14a2800000000p-1f, 0x1.aed5480000000p-1f},
      {1000000.0, 0, 511ll, -0x1.e2ffca0000000p-2f, 0x1.c377680000000p-1f},
      {1000000.0, 0, 1000003ll, -0x1.c187720000000p-1f, 0x1.ea2c820000000p-2f},
      {1000000.0, 0, 1099511640121ll, -0x1.0293640000000p-1f, 0x1.b9e86c0000000p-1f},
      {1000000.0, 0, 4611686019415042225ll, 0x1.4b68580000000p-6f, -0x1.ffe52e0000000p-1f},
      {1000000.0, 0, -77ll, -0x1.fb7eb40000000p-6f, -0x1.ffc11c0000000p-1f},
      {1000000.0, 1, 1ll, 0x1.3f30ea0000000p-1f, 0x1.9053820000000p-1f},
      {1000000.0, 1, 511ll, 0x1.ff77c40000000p-1f, 0x1.75673e0000000p-5f},
      {1000000.0, 1, 1000003ll, 0x1.281e520000000p-3f, -0x1.fa9eaa0000000p-1f},
      {1000000.0, 1, 1099511640121ll, -0x1.6915240000000p-1f, 0x1.6afe040000000p-1f},
      {1000000.0, 1, 4611686019415042225ll, -0x1.69b3920000000p-3f, -0x1.f7f39e0000000p-1f},
      {1000000.0, 1, -77ll, 0x1.fffce80000000p-1f, -0x1.c248500000000p-8f},
      {1000000.0, 37, 1ll, 0x1.ffe9ba0000000p-1f, 0x1.2e02620000000p-6f},
      {1000000.0, 37, 511ll, -0x1.fffe700000000p-1f, 0x1.403d080000000p-8f},
      {1000000.0, 37, 1000003ll, 0x1.ac23740000000p-1f, -0x1.18c9820000000p-1f},
      {1000000.0, 37, 1099511640121ll, -0x1.ff77d00000000p-1f, 0x1.7558540000000p-5f},
      {1000000.0, 37, 4611686019415042225ll, 0x1.ada3da0000000p-1f, 0x1.167bf40000000p-1f},
      {1000000.0, 37, -77ll, 0x1.34cde60000000p-3f, -0x1.fa256e0000000p-1f},
      {1000000.0, 127, 1ll, 0x1.0000000000000p+0f, 0x1.2b07b40000000p-20f},
      {1000000.0, 127, 511ll, 0x1.fffffa0000000p-1f, 0x1.2a722e0000000p-11f},
      {1000000.0, 127, 1000003ll, 0x1.c3ae920000000p-2f, 0x1.cb7fe40000000p-1f},
      {1000000.0, 127, 1099511640121ll, -0x1.6986da0000000p-2f, 0x1.df07600000000p-1f},
      {1000000.0, 127, 4611686019415042225ll, 0x1.3b65ac0000000p-1f, -0x1.93526e0000000p-1f},
      {1000000.0, 127, -77ll, 0x1.0000000000000p+0f, -0x1.67c5440000000p-14f},
  };
  for (const Expected& e : table) {
    const Result<Rotary> rotary = make_rotary({256, e.base});
    ASSERT_TRUE(rotary.ok());
    std::vector<float> cos(128), sin(128);
    fill_rotary_row(rotary.value(), e.position, cos.data(), sin.data());
    EXPECT_EQ(cos[e.pair], e.cos) << e.base << " pair " << e.pair << " position " << e.position;
    EXPECT_EQ(sin[e.pair], e.sin) << e.base << " pair " << e.pair << " position " << e.position;
  }
}

TEST(Rotary, QuarterTurnsAreExactAndZerosPositive) {
  const float expected[4][2] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};
  for (uint64_t quarter = 0; quarter < 4; ++quarter) {
    float cos, sin;
    cos_sin_turns(quarter << 62, &cos, &sin);
    EXPECT_EQ(std::memcmp(&cos, &expected[quarter][0], sizeof cos), 0) << quarter;
    EXPECT_EQ(std::memcmp(&sin, &expected[quarter][1], sizeof sin), 0) << quarter;
  }
}

TEST(Rotary, CosAndSinAreCorrectlyRounded) {
  test::Random random(4);
  for (int i = 0; i < 200000; ++i) {
    const uint64_t turns = random();
    float cos, sin;
    cos_sin_turns(turns, &cos, &sin);
    const long double angle = static_cast<long double>(turns) * 0x1p-63L * 3.14159265358979323846264338327950288L;
    EXPECT_LE(test::ulps(cos, static_cast<double>(std::cos(angle))), 0.500001) << turns;
    EXPECT_LE(test::ulps(sin, static_cast<double>(std::sin(angle))), 0.500001) << turns;
  }
}

TEST(Rotary, BadParametersAreRefused) {
  EXPECT_FALSE(make_rotary({255, 1e4}).ok());
  EXPECT_FALSE(make_rotary({0, 1e4}).ok());
  EXPECT_FALSE(make_rotary({256, 0.0}).ok());
  EXPECT_FALSE(make_rotary({256, std::nan("")}).ok());
  EXPECT_FALSE(make_rotary({256, 1e4, 0.0}).ok());
  EXPECT_FALSE(make_rotary({256, 1e4, INFINITY}).ok());
  EXPECT_TRUE(make_rotary({2, 1.0}).ok());
}

TEST(RotateRow, EveryIsaHasTheBitsOfTheReferenceAlsoInPlace) {
  test::Random random(5);
  for (int64_t head_dim = 2; head_dim <= 260; head_dim += 2) {
    const int64_t heads = 1 + head_dim % 3;
    const std::vector<float> x = test::awkward_row(random, static_cast<size_t>(heads * head_dim));
    const std::vector<float> cos = test::awkward_row(random, static_cast<size_t>(head_dim / 2));
    const std::vector<float> sin = test::awkward_row(random, static_cast<size_t>(head_dim / 2));
    std::vector<float> expected(x.size());
    for (const bool interleaved : {false, true}) {
      rotation_for(Isa::scalar, interleaved)(x.data(), cos.data(), sin.data(), expected.data(), heads, head_dim);
      for (const Isa isa : test::fast_isas()) {
        SCOPED_TRACE(::testing::Message()
                     << isa_name(isa) << " head_dim " << head_dim << " interleaved " << interleaved);
        std::vector<float> y(x.size());
        rotation_for(isa, interleaved)(x.data(), cos.data(), sin.data(), y.data(), heads, head_dim);
        EXPECT_TRUE(test::same_bits(y, expected));
        y = x;
        rotation_for(isa, interleaved)(y.data(), cos.data(), sin.data(), y.data(), heads, head_dim);
        EXPECT_TRUE(test::same_bits(y, expected));
      }
    }
  }
}

TEST(RotateRow, TurnsTheHalvesOfEachHead) {
  const float x[] = {1, 0, 0, 2};  // pairs (1, 0) and (0, 2)
  const float angle = static_cast<float>(kPi / 6);
  const float cos[] = {std::cos(angle), std::cos(2 * angle)};
  const float sin[] = {std::sin(angle), std::sin(2 * angle)};
  float y[4];
  scalar::rotate_row(x, cos, sin, y, 1, 4);
  EXPECT_FLOAT_EQ(y[0], cos[0]);
  EXPECT_FLOAT_EQ(y[2], sin[0]);
  EXPECT_FLOAT_EQ(y[1], -2 * sin[1]);
  EXPECT_FLOAT_EQ(y[3], 2 * cos[1]);
}

TEST(RotateRow, AdjacentPairsAreHalvesInAnotherOrder) {
  test::Random random(6);
  const std::vector<float> x = test::random_row(random, 3 * 20), cos = test::random_row(random, 10),
                           sin = test::random_row(random, 10);
  std::vector<float> halves(60), turned(60), y(60);
  const auto place = [](size_t i) { return i / 20 * 20 + (i % 20 % 2) * 10 + i % 20 / 2; };
  for (size_t i = 0; i < 60; ++i) halves[place(i)] = x[i];
  scalar::rotate_row(halves.data(), cos.data(), sin.data(), turned.data(), 3, 20);
  scalar::rotate_adjacent(x.data(), cos.data(), sin.data(), y.data(), 3, 20);
  for (size_t i = 0; i < 60; ++i) EXPECT_EQ(y[i], turned[place(i)]) << i;
}

}  // namespace
}  // namespace kvass
