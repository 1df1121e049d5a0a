// Tests of the largest output without most outputs: what the screen says bounds every output, all instruction sets say
// the same, and the answer is that of all outputs.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/float16.h"
#include "base/float_env.h"
#include "effort.h"
#include "kernels/linear/screen.h"
#include "ops/argmax_linear/argmax_linear.h"

namespace kvass {
namespace {

using Random = std::mt19937_64;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kRowBlock = 34;  // bytes of a block of Q8_0: d as f16, 32 quants

std::vector<Isa> all_isas() {
  std::vector<Isa> isas;
  const CpuFeatures features = detect_cpu_features();
  for (Isa isa : kIsas) {
    if (isa_available(isa, features)) isas.push_back(isa);
  }
  return isas;
}

// Rows of Q8_0, one after the other.
struct Source {
  Source(int64_t n, int64_t k, Random& random) : n(n), k(k), bytes(static_cast<size_t>(n * k / kBlock * kRowBlock)) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t b = 0; b < k / kBlock; ++b) {
        set_scale(row, b, std::uniform_real_distribution<float>(-0.01f, 0.01f)(random));
      }
    }
  }
  uint8_t* block(int64_t row, int64_t b) { return bytes.data() + (row * (k / kBlock) + b) * kRowBlock; }
  int8_t quant(int64_t row, int64_t i) { return static_cast<int8_t>(block(row, i / kBlock)[2 + i % kBlock]); }
  void set_scale(int64_t row, int64_t b, float value) {
    const uint16_t half = float_to_f16(value);
    std::memcpy(block(row, b), &half, 2);
  }
  void copy_row(int64_t from, int64_t to) {
    std::memcpy(block(to, 0), block(from, 0), static_cast<size_t>(k / kBlock * kRowBlock));
  }

  int64_t n, k;
  std::vector<uint8_t> bytes;
};

struct Head {
  explicit Head(const Source& source)
      : block(Block::map(packed_bytes(WeightType::Q8_0_split, source.n, source.k).value()).value()),
        weight{WeightType::Q8_0_split, source.n, source.k, block.data()} {
    pack_panels(weight.type, source.bytes.data(), weight.n, weight.k, 0, panel_count(weight.n), block.data());
  }
  Block block;
  PackedWeight weight;
};

std::vector<float> all_outputs(const PackedWeight& weight, const std::vector<float>& x, Math math, Isa isa) {
  ThreadPool one(1);
  std::vector<float> y(static_cast<size_t>(weight.n));
  std::vector<uint8_t> scratch(activation_bytes(math, 1, weight.k));
  const LinearTarget target{weight, y.data(), weight.n};
  linear(x.data(), weight.k, 1, weight.k, {&target, 1}, math, scratch.data(), one, isa);
  return y;
}

// What `argmax_linear` says, and in `outputs` the outputs that it computed; the others are `untouched`.
constexpr float kUntouched = -12345.0f;
Argmax ask(const PackedWeight& weight, const std::vector<float>& x, Math math, Isa isa, ThreadPool& threads,
           std::vector<float>* outputs = nullptr) {
  std::vector<float> y(static_cast<size_t>(weight.n), kUntouched);
  std::vector<uint8_t> activations(activation_bytes(math, 1, weight.k));
  std::vector<uint8_t> scratch(screen_bytes(weight.n, weight.k));
  const Argmax best = argmax_linear(x.data(), weight, math, y.data(), activations.data(), scratch.data(), threads, isa);
  if (outputs) *outputs = y;
  return best;
}

void expect_answer(const PackedWeight& weight, const std::vector<float>& x, const std::string& what) {
  ThreadPool one(1), three(3);
  for (Math math : {Math::a16, Math::a8}) {
    const std::vector<float> y = all_outputs(weight, x, math, Isa::scalar);
    const Argmax expected = argmax_for(Isa::scalar)(y.data(), weight.n);
    for (Isa isa : all_isas()) {
      for (ThreadPool* threads : {&one, &three}) {
        const Argmax got = ask(weight, x, math, isa, *threads);
        ASSERT_EQ(got.index, expected.index) << what << ", " << isa_name(isa) << " " << math_name(math);
        ASSERT_EQ(std::memcmp(&got.value, &expected.value, 4), 0) << what << ", " << isa_name(isa);
      }
    }
  }
}

std::vector<float> normal_row(int64_t k, Random& random) {
  std::vector<float> x(static_cast<size_t>(k));
  for (float& value : x) value = std::normal_distribution<float>()(random);
  return x;
}

std::vector<ScreenedPanel> screened(const PackedWeight& weight, const std::vector<float>& x, Math math, Isa isa) {
  std::vector<uint8_t> activations(activation_bytes(math, 1, weight.k));
  (math == Math::a16 ? quantise_a16_for(isa)
                     : quantise_a8_for(isa))({x.data(), weight.k, 1, weight.k, activations.data()});
  std::vector<ScreenedBlock> blocks;  // every third k is taken singly
  for (int64_t b = 0; b < weight.k / kBlock; ++b) {
    double squares = 0.0, singles = 0.0;
    for (int64_t i = 0; i < kBlock; ++i) {
      const double value = std::fabs(static_cast<double>(x[static_cast<size_t>(b * kBlock + i)]));
      if (i % 3 == b % 4) {
        singles += value;
      } else {
        squares += value * value;
      }
    }
    constexpr double kUp = 1.05;  // covers the rounding of 8 bits, too
    blocks.push_back({static_cast<float>(kUp * std::sqrt(squares)), static_cast<float>(kUp * 30.0 * singles)});
  }
  std::vector<ScreenedPanel> out(static_cast<size_t>(panel_count(weight.n)));
  (math == Math::a16 ? screen_a16_for(isa) : screen_a8_for(isa))(
      {weight.data, weight.n, weight.k, 0, panel_count(weight.n), activations.data(), blocks.data(), out.data()});
  return out;
}

TEST(LinearScreen, IsTheSameOnAllInstructionSets) {
  Random random(1);
  FloatEnvironment environment;
  for (int trial = 0; trial < testing::effort(30, 8); ++trial) {
    const int64_t n = 1 + static_cast<int64_t>(random() % 150), k = kBlock * (1 + static_cast<int64_t>(random() % 23));
    Source source(n, k, random);
    if (trial % 3 == 1) source.set_scale(n / 2, 0, trial % 2 ? kInfinity : std::nanf(""));
    const Head head(source);
    std::vector<float> x = normal_row(k, random);
    if (trial % 5 == 4) x[static_cast<size_t>(random() % static_cast<uint64_t>(k))] = kInfinity;
    for (Math math : {Math::a16, Math::a8}) {
      const std::vector<ScreenedPanel> expected = screened(head.weight, x, math, Isa::scalar);
      for (Isa isa : all_isas()) {
        const std::vector<ScreenedPanel> got = screened(head.weight, x, math, isa);
        for (size_t i = 0; i < expected.size(); ++i) {
          ASSERT_EQ(expected[i].most, got[i].most) << isa_name(isa) << " panel " << i << " trial " << trial;
          ASSERT_EQ(expected[i].likely, got[i].likely) << isa_name(isa) << " panel " << i << " trial " << trial;
        }
      }
    }
  }
}

// Rows against their own left-out parts, where Cauchy and Schwarz leave the least room.
TEST(LinearScreen, BoundsEveryOutput) {
  Random random(2);
  FloatEnvironment environment;
  for (int trial = 0; trial < testing::effort(60, 10); ++trial) {
    const int64_t n = 40, k = kBlock * (1 + static_cast<int64_t>(random() % 40));
    Source source(n, k, random);
    for (int64_t b = 0; b < k / kBlock; ++b) source.set_scale(7, b, 0.01f);
    const Head head(source);
    std::vector<float> x = normal_row(k, random);
    if (trial % 2 == 0) {
      for (int64_t i = 0; i < k; ++i) {
        x[static_cast<size_t>(i)] =
            static_cast<float>((source.quant(7, i) & 15) * 2 - 15) * (trial % 4 == 0 ? 1.0f : 1e-20f);
      }
    }
    for (Math math : {Math::a16, Math::a8}) {
      const std::vector<float> y = all_outputs(head.weight, x, math, Isa::scalar);
      const std::vector<ScreenedPanel> bounds = screened(head.weight, x, math, Isa::scalar);
      for (int64_t i = 0; i < n; ++i) {
        ASSERT_LE(y[static_cast<size_t>(i)], bounds[static_cast<size_t>(i / kPanelOutputs)].most)
            << "output " << i << ", trial " << trial;
      }
    }
  }
}

TEST(ArgmaxLinear, IsTheLargestOfAllOutputs) {
  Random random(3);
  FloatEnvironment environment;
  for (int trial = 0; trial < testing::effort(40, 8); ++trial) {
    const int64_t n = 1 + static_cast<int64_t>(random() % (trial % 4 == 0 ? 5000 : 200));
    const int64_t k = kBlock * (1 + static_cast<int64_t>(random() % 23));
    const Head head{Source(n, k, random)};
    expect_answer(head.weight, normal_row(k, random), std::to_string(n) + " x " + std::to_string(k));
  }
}

TEST(ArgmaxLinear, TakesTheLowestOfEqualOutputs) {
  Random random(4);
  FloatEnvironment environment;
  const int64_t n = 3000, k = 160;
  Source source(n, k, random);
  const std::vector<float> x = normal_row(k, random);
  const std::vector<float> y = all_outputs(Head(source).weight, x, Math::a16, Isa::scalar);
  const int64_t best = argmax_for(Isa::scalar)(y.data(), n).index;
  for (int64_t row : {int64_t{2999}, int64_t{1601}, int64_t{5}, int64_t{4}}) source.copy_row(best, row);
  const Head head(source);
  ThreadPool three(3);
  for (Isa isa : all_isas()) EXPECT_EQ(ask(head.weight, x, Math::a16, isa, three).index, std::min<int64_t>(4, best));
  expect_answer(head.weight, x, "equal rows");
}

TEST(ArgmaxLinear, PassesOverNaNAndTakesInfinity) {
  Random random(5);
  FloatEnvironment environment;
  const int64_t n = 500, k = 96;
  const std::vector<float> x = normal_row(k, random);
  for (float scale : {std::nanf(""), kInfinity, -kInfinity}) {
    Source source(n, k, random);
    for (int64_t row : {int64_t{0}, int64_t{17}, int64_t{333}, int64_t{499}}) source.set_scale(row, 1, scale);
    expect_answer(Head(source).weight, x, "scale " + std::to_string(scale));
  }
  Source nothing(n, k, random);
  for (int64_t row = 0; row < n; ++row) nothing.set_scale(row, 0, std::nanf(""));
  expect_answer(Head(nothing).weight, x, "NaN alone");
  const Head head{Source(n, k, random)};
  for (float value : {std::nanf(""), kInfinity, 3e38f, 1e-30f, 0.0f, 0x1p-149f}) {
    std::vector<float> extreme = x;
    extreme[50] = value;
    expect_answer(head.weight, extreme, "activation " + std::to_string(value));
    expect_answer(head.weight, std::vector<float>(static_cast<size_t>(k), value), "all " + std::to_string(value));
  }
}

// One row stands out, as a model's next token does: few panels are computed, with the bits of all.
TEST(ArgmaxLinear, LeavesOutWhatCannotBeLargest) {
  Random random(6);
  FloatEnvironment environment;
  const int64_t n = 8000, k = 640;
  Source source(n, k, random);
  const std::vector<float> x = normal_row(k, random);
  for (int64_t b = 0; b < k / kBlock; ++b) {
    source.set_scale(4321, b, 0.01f);
    for (int64_t i = 0; i < kBlock; ++i) {
      source.block(4321, b)[2 + i] =
          static_cast<uint8_t>(static_cast<int8_t>(x[static_cast<size_t>(b * kBlock + i)] * 40));
    }
  }
  const Head head(source);
  ThreadPool three(3);
  for (Math math : {Math::a16, Math::a8}) {
    for (Isa isa : all_isas()) {
      const std::vector<float> all = all_outputs(head.weight, x, math, isa);
      std::vector<float> some;
      EXPECT_EQ(ask(head.weight, x, math, isa, three, &some).index, 4321);
      int64_t computed = 0;
      for (size_t i = 0; i < some.size(); ++i) {
        if (some[i] == kUntouched) continue;
        ++computed;
        ASSERT_EQ(std::memcmp(&some[i], &all[i], 4), 0) << "output " << i;
      }
      EXPECT_LT(computed, n / 4) << isa_name(isa);
    }
  }
}

}  // namespace
}  // namespace kvass
