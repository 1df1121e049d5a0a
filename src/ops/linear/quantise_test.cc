// Tests of the activation quantisers: the rule at its edges, and the fast ones against the reference, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/float_env.h"
#include "kernels/linear/byte_blocks.h"

namespace kvass {
namespace {

template <class Block>
std::vector<Block> quantise(QuantiseFunction function, const std::vector<float>& x, int64_t rows, int64_t k) {
  std::vector<Block> blocks(static_cast<size_t>(rows * activation_blocks(k)));
  std::memset(static_cast<void*>(blocks.data()), 0x77, blocks.size() * sizeof(Block));
  function({x.data(), k, rows, k, blocks.data()});
  for (Block& block : blocks) {
    if (std::isnan(block.scale)) block.scale = std::numeric_limits<float>::quiet_NaN();
  }
  return blocks;
}

// Blocks of planes (byte_blocks.h) as the blocks of the reference.
ActivationBlock8 plain(const ActivationBlock8& block) { return block; }
ActivationBlock16 plain(const ActivationBlock16& block) { return block; }

ActivationBlock8 plain(const ByteBlock<1>& block) {
  ActivationBlock8 out;
  std::memcpy(out.q, block.q[0], kBlock);
  out.scale = block.scale;
  out.sum = block.sum;
  for (int half = 1; half <= 2; ++half) {
    int pairs[2] = {};
    for (int i = 0; i < kBlock / 2; ++i) pairs[i % 4 / 2] -= block.q[0][(half - 1) * kBlock / 2 + i];
    EXPECT_EQ(block.negated_sums[half], pairs[0] + pairs[1]);
    for (int pair = 0; pair < 2; ++pair) out.negated_pair_sums[half][pair] = static_cast<int16_t>(pairs[pair]);
  }
  EXPECT_EQ(block.negated_sums[0], block.negated_sums[1] + block.negated_sums[2]);
  for (int pair = 0; pair < 2; ++pair) {
    out.negated_pair_sums[0][pair] =
        static_cast<int16_t>(out.negated_pair_sums[1][pair] + out.negated_pair_sums[2][pair]);
  }
  return out;
}

ActivationBlock16 plain(const ByteBlock<2>& block) {
  constexpr int kOrder[4] = {0, 2, 1, 3};  // linear.h
  ActivationBlock16 out;
  for (int i = 0; i < kBlock; ++i) {
    out.q[i / 4 * 4 + kOrder[i % 4]] = static_cast<int16_t>(256 * block.q[0][i] + block.q[1][i]);
  }
  out.scale = block.scale;
  out.sum = block.sum;
  std::memcpy(out.negated_sums, block.negated_sums, sizeof(out.negated_sums));
  return out;
}

// `FastBlock`: what the fast quantiser makes.
template <class Block, class FastBlock = Block>
void expect_quantisers_agree(QuantiseFunction reference, QuantiseFunction fast, std::mt19937_64& random) {
  for (int64_t k : {1, 5, 31, 32, 33, 64, 100, 640}) {
    const int64_t rows = 40;
    std::vector<float> x(static_cast<size_t>(rows * k));
    for (float& value : x) value = std::normal_distribution<float>()(random);
    for (int64_t row = 0; row < rows; ++row) {
      const float scale = std::ldexp(1.0f, static_cast<int>(random() % 250) - 140);
      for (int64_t j = 0; j < k; ++j) {
        float& value = x[static_cast<size_t>(row * k + j)];
        value *= scale;
        if (row > 30 && random() % 30 == 0) value = row % 3 == 0 ? NAN : row % 3 == 1 ? INFINITY : -INFINITY;
      }
    }
    const std::vector<Block> expected = quantise<Block>(reference, x, rows, k);
    std::vector<Block> got;
    for (const FastBlock& block : quantise<FastBlock>(fast, x, rows, k)) got.push_back(plain(block));
    ASSERT_EQ(std::memcmp(expected.data(), got.data(), expected.size() * sizeof(Block)), 0) << "k=" << k;
  }
}

TEST(LinearQuantise, FastQuantisersEqualTheReference) {
  const char* given = std::getenv("KVASS_TEST_SEED");
  const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : 20260101;
  SCOPED_TRACE("KVASS_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  FloatEnvironment environment;
  const CpuFeatures features = detect_cpu_features();
  if (isa_available(Isa::avx512vnni, features)) {
    expect_quantisers_agree<ActivationBlock8, ByteBlock<1>>(quantise_a8_for(Isa::scalar),
                                                            quantise_a8_for(Isa::avx512vnni), random);
    expect_quantisers_agree<ActivationBlock16, ByteBlock<2>>(quantise_a16_for(Isa::scalar),
                                                             quantise_a16_for(Isa::avx512vnni), random);
  }
  for (Isa isa : kIsas) {
    if (isa == Isa::scalar || isa == Isa::avx512vnni || !isa_available(isa, features)) continue;
    expect_quantisers_agree<ActivationBlock8>(quantise_a8_for(Isa::scalar), quantise_a8_for(isa), random);
    expect_quantisers_agree<ActivationBlock16>(quantise_a16_for(Isa::scalar), quantise_a16_for(isa), random);
  }
}

TEST(LinearQuantise, FollowsTheRuleAtItsEdges) {
  FloatEnvironment environment;
  const auto a8 = [](float first, float second) {
    std::vector<float> x(32, 0.0f);
    x[0] = first;
    x[1] = second;
    return quantise<ActivationBlock8>(quantise_a8_for(Isa::scalar), x, 1, 32)[0];
  };
  const float floor = 0x1p-100f;
  EXPECT_EQ(a8(floor, 0).scale, floor / 127.0f);
  EXPECT_EQ(a8(floor, 0).q[0], 127);
  EXPECT_EQ(a8(std::nextafter(floor, 0.0f), 0).scale, 0.0f);
  EXPECT_EQ(a8(std::nextafter(floor, 0.0f), 0).q[0], 0);
  EXPECT_EQ(a8(0, 0).scale, 0.0f);
  EXPECT_TRUE(std::isnan(a8(INFINITY, 1).scale));
  EXPECT_TRUE(std::isnan(a8(NAN, 1).scale));
  EXPECT_EQ(a8(NAN, 1).q[1], 0);
  const float largest = std::numeric_limits<float>::max();
  EXPECT_EQ(a8(-largest, largest / 2).q[0], -127);
  EXPECT_EQ(a8(127, 2.5f).q[1], 2);  // ties to even
  EXPECT_EQ(a8(127, 3.5f).q[1], 4);
  EXPECT_EQ(a8(127, -4).sum, 123.0f);
  EXPECT_EQ(a8(127, -4).negated_pair_sums[0][0], -123);

  std::vector<float> x(32, 0.0f);
  x[1] = 32639.0f;
  x[2] = -7.0f;
  x[30] = 5.0f;
  const ActivationBlock16 block = quantise<ActivationBlock16>(quantise_a16_for(Isa::scalar), x, 1, 32)[0];
  EXPECT_EQ(block.scale, 1.0f);
  EXPECT_EQ(block.q[2], 32639);  // q1 is third of its group
  EXPECT_EQ(block.q[1], -7);
  EXPECT_EQ(block.q[29], 5);
  EXPECT_EQ(block.negated_sums[0], -32637);
  EXPECT_EQ(block.negated_sums[1], -32632);
  EXPECT_EQ(block.negated_sums[2], -5);
}

}  // namespace
}  // namespace kvass
