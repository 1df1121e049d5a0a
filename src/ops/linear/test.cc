// Tests of the linear operator: packing against definitions written out here, the reference against float64, and every
// fast kernel against the reference, bit for bit.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/float16.h"
#include "base/float_env.h"
#include "defined_weight.h"
#include "effort.h"
#include "kernels/linear/linear.h"
#include "ops/linear/linear.h"
#include "weight_blocks.h"

namespace kvass {
namespace {

using testing::defined_weight;
using testing::put_scales;

constexpr Math kMaths[] = {Math::f32, Math::a16, Math::a8};

using Random = std::mt19937_64;

uint64_t test_seed() {
  const char* given = std::getenv("KVASS_TEST_SEED");
  return given ? std::strtoull(given, nullptr, 10) : 20260101;
}

// The seed in every failure message.
#define PRINT_SEED(seed) SCOPED_TRACE("KVASS_TEST_SEED=" + std::to_string(seed))

bool is_float(WeightType type) { return !panel_format(type).quantised; }
int64_t block_elements(WeightType type) { return panel_format(type).k_multiple(); }

std::vector<Isa> fast_isas() {
  std::vector<Isa> isas;
  const CpuFeatures features = detect_cpu_features();
  for (Isa isa : kIsas) {
    if (isa != Isa::scalar && isa_available(isa, features)) isas.push_back(isa);
  }
  return isas;
}

// Random bytes with finite scales. `extreme`: quants all at one end of their range.
std::vector<uint8_t> random_source(WeightType type, int64_t n, int64_t k, Random& random, int extreme = -1) {
  std::vector<uint8_t> bytes(source_bytes(type, n, k).value());
  for (uint8_t& byte : bytes) byte = extreme < 0 ? static_cast<uint8_t>(random()) : static_cast<uint8_t>(extreme);
  const auto number = [&](float most) { return std::uniform_real_distribution<float>(-most, most)(random); };
  const size_t block_bytes = source_row_bytes(type, block_elements(type));
  for (size_t at = 0; at < bytes.size(); at += block_bytes) {
    if (type == WeightType::F32) {
      const float value = number(1);
      std::memcpy(&bytes[at], &value, 4);
    } else if (is_float(type)) {
      const float value = number(0.01f);
      const uint16_t half = type == WeightType::BF16 ? float_to_bf16(value) : float_to_f16(value);
      std::memcpy(&bytes[at], &half, 2);
    } else {
      const float d = number(0.01f);
      put_scales(type, d, number(0.01f), &bytes[at]);
    }
  }
  return bytes;
}

struct Packed {
  Block block;
  PackedWeight weight;
  std::vector<uint8_t> source;
};

Packed pack(WeightType type, int64_t n, int64_t k, std::vector<uint8_t> source) {
  Packed packed;
  packed.block = Block::map(packed_bytes(type, n, k).value()).value();
  std::memset(packed.block.data(), 0xa5, packed.block.bytes());  // packing must write every byte that is read
  const int64_t panels = panel_count(n);
  pack_panels(type, source.data(), n, k, panels / 2, panels, packed.block.data());
  pack_panels(type, source.data(), n, k, 0, panels / 2, packed.block.data());
  packed.weight = {type, n, k, packed.block.data()};
  packed.source = std::move(source);
  return packed;
}

// Bitwise equal, but any NaN is any other.
bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

void expect_same(const std::vector<float>& expected, const std::vector<float>& got, const std::string& what) {
  ASSERT_EQ(expected.size(), got.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(same_bits(expected[i], got[i])) << what << " at " << i << ": " << expected[i] << " and " << got[i];
  }
}

std::vector<float> multiply(const PackedWeight& weight, const std::vector<float>& x, int64_t x_stride, int64_t rows,
                            Math math, Isa isa, ThreadPool& threads, int64_t y_stride = 0) {
  if (y_stride == 0) y_stride = weight.n;
  std::vector<float> y(static_cast<size_t>(rows * y_stride), -7.0f);
  std::vector<uint8_t> scratch(activation_bytes(math, rows, weight.k));
  const LinearTarget target = {weight, y.data(), y_stride};
  linear(x.data(), x_stride, rows, weight.k, {&target, 1}, math, scratch.data(), threads, isa);
  return y;
}

std::vector<float> random_rows(int64_t count, Random& random) {
  std::vector<float> x(static_cast<size_t>(count));
  std::normal_distribution<float> normal(0, 1);
  for (float& value : x) value = normal(random);
  return x;
}

std::string describe(WeightType type, Math math, Isa isa, int64_t n, int64_t k, int64_t rows) {
  const char* const names[] = {"f32", "a16", "a8"};
  return std::string(weight_type_name(type)) + " " + names[static_cast<int>(math)] + " " + std::string(isa_name(isa)) +
         " n=" + std::to_string(n) + " k=" + std::to_string(k) + " rows=" + std::to_string(rows);
}

// --- Packing ---

TEST(LinearWeight, UnpackedRowsEqualTheDefinitionOfEveryType) {
  const uint64_t seed = test_seed();
  PRINT_SEED(seed);
  Random random(seed);
  for (WeightType type : kWeightTypes) {
    for (int64_t n : {1, 15, 16, 37}) {
      for (int64_t blocks : {1, 2, 3, 5}) {
        const int64_t k = blocks * (is_float(type) ? 7 : block_elements(type));
        const Packed packed = pack(type, n, k, random_source(type, n, k, random));
        std::vector<float> row(static_cast<size_t>(k));
        for (int64_t i = 0; i < n; ++i) {
          unpack_row(packed.weight, i, row.data());
          const uint8_t* source = packed.source.data() + static_cast<size_t>(i) * source_row_bytes(type, k);
          for (int64_t j = 0; j < k; ++j) {
            ASSERT_TRUE(same_bits(defined_weight(type, source, j), row[static_cast<size_t>(j)]))
                << weight_type_name(type) << " row " << i << " element " << j;
          }
        }
      }
    }
  }
}

TEST(LinearWeight, AWholePanelIsThatOfTheTypeInOnePiece) {
  Random random(test_seed());
  for (int64_t n : {1, 16, 53}) {
    for (int64_t k : {32, 64, 96, 640}) {
      const std::vector<uint8_t> source = random_source(WeightType::Q8_0, n, k, random);
      const Packed split = pack(WeightType::Q8_0_split, n, k, source), whole = pack(WeightType::Q8_0, n, k, source);
      ASSERT_EQ(whole_type(split.weight.type), WeightType::Q8_0);
      const auto bytes = static_cast<size_t>(panel_bytes(WeightType::Q8_0, k));
      for (int64_t panel = 0; panel < panel_count(n); ++panel) {
        for (const Packed* from : {&split, &whole}) {
          std::vector<uint8_t> made(bytes, 0xa5);
          whole_panel(from->weight, panel, made.data());
          // The packer fills the block after an odd number of them with zeros, as whole_panel does.
          ASSERT_EQ(std::memcmp(made.data(), whole.weight.data + static_cast<size_t>(panel) * bytes, bytes), 0)
              << n << " x " << k << " panel " << panel;
        }
      }
    }
  }
}

TEST(LinearWeight, PaddedOutputsAreZero) {
  Random random(1);
  for (WeightType type : kWeightTypes) {
    const int64_t k = is_float(type) ? 32 : block_elements(type);
    const Packed packed = pack(type, 3, k, random_source(type, 3, k, random));
    PackedWeight whole = packed.weight;
    whole.n = 16;
    ThreadPool threads(1);
    const std::vector<float> y =
        multiply(whole, std::vector<float>(static_cast<size_t>(k), 1.0f), k, 1, Math::f32, Isa::scalar, threads);
    if (panel_format(type).offset != 0) continue;  // zero bytes under a zero scale: −offset · 0 may be −0
    for (size_t i = 3; i < 16; ++i) EXPECT_EQ(y[i], 0.0f) << weight_type_name(type);
  }
}

TEST(LinearWeight, SizesOfTheModelsTensorsAreAsTheFormatSays) {
  EXPECT_EQ(packed_bytes(WeightType::Q8_0, 262144, 640).value(), 262144u / 16 * 10 * (64 + 2 * 512));
  EXPECT_EQ(packed_bytes(WeightType::Q5_0, 2048, 640).value(), 2048u / 16 * 10 * (64 + 2 * 320));
  EXPECT_EQ(packed_bytes(WeightType::Q4_K, 640, 2048).value(), 640u / 16 * 8 * (320 + 8 * 256));
  EXPECT_EQ(packed_bytes(WeightType::Q6_K, 640, 2048).value(), 640u / 16 * 8 * (320 + 8 * 384));
  EXPECT_EQ(packed_bytes(WeightType::Q8_0_split, 262144, 640).value(),
            262144u / 16 * (10 * (64 + 2 * 256) + 20 * 16 + 20 * 256));
  EXPECT_EQ(packed_bytes(WeightType::F16, 17, 3).value(), 2u * 128);
  EXPECT_EQ(source_bytes(WeightType::Q8_0, 262144, 640).value(), 262144u * 20 * 34);
  EXPECT_EQ(source_bytes(WeightType::Q6_K, 640, 2048).value(), 640u * 8 * 210);
}

TEST(LinearWeight, ShapesThatATypeCannotHaveAreErrors) {
  EXPECT_EQ(packed_bytes(WeightType::Q8_0, 4, 100).status().message(),
            "Q8_0 weight of 4 x 100: expected rows of a multiple of 32 elements, got 100");
  EXPECT_EQ(source_bytes(WeightType::Q4_K, 4, 128).status().message(),
            "Q4_K weight of 4 x 128: expected rows of a multiple of 256 elements, got 128");
  EXPECT_FALSE(packed_bytes(WeightType::F32, 0, 8).ok());
  EXPECT_FALSE(packed_bytes(WeightType::F32, 8, -1).ok());
  const int64_t largest = std::numeric_limits<int64_t>::max();
  EXPECT_FALSE(packed_bytes(WeightType::F32, largest, largest).ok());
  EXPECT_FALSE(source_bytes(WeightType::F16, largest, 1).ok());
  EXPECT_TRUE(packed_bytes(WeightType::F16, 1, 1).ok());
}

// --- The reference against float64 ---

TEST(LinearReference, IsWithinItsEpsilonsOfFloat64) {
  const uint64_t seed = test_seed();
  PRINT_SEED(seed);
  Random random(seed);
  ThreadPool threads(1);
  for (WeightType type : kWeightTypes) {
    const int64_t n = 33, k = 1024, rows = 3;
    const Packed packed = pack(type, n, k, random_source(type, n, k, random));
    const std::vector<float> x = random_rows(rows * k, random);
    for (Math math : kMaths) {
      const std::vector<float> y = multiply(packed.weight, x, k, rows, math, Isa::scalar, threads);
      // An activation is off by half a step of amax / qmax (amax < 6 for these), and each fma by half an epsilon.
      const double step = is_float(type) || math == Math::f32 ? 0 : math == Math::a16 ? 3.0 / kQmax16 : 3.0 / kQmax8;
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < n; ++i) {
          double exact = 0, magnitude = 0, weights = 0;
          for (int64_t j = 0; j < k; ++j) {
            const double w =
                defined_weight(type, packed.source.data() + static_cast<size_t>(i) * source_row_bytes(type, k), j);
            const double product = w * x[static_cast<size_t>(row * k + j)];
            exact += product;
            magnitude += std::fabs(product);
            weights += w * w;
          }
          const double got = y[static_cast<size_t>(row * n + i)];
          // Rounding of activations adds up like a random walk: five of its deviations (step / sqrt 3 each).
          const double tolerance = 16 * 0x1p-24 * magnitude + 5 * step / std::sqrt(3.0) * std::sqrt(weights);
          ASSERT_NEAR(got, exact, tolerance + 1e-30) << describe(type, math, Isa::scalar, n, k, rows);
        }
      }
    }
  }
}

// --- The fast kernels against the reference ---

TEST(LinearKernels, EqualTheReferenceBitForBitOverRandomShapes) {
  const uint64_t seed = test_seed();
  PRINT_SEED(seed);
  Random random(seed);
  FloatEnvironment environment;
  ThreadPool one(1), two(2), three(3);
  ThreadPool* pools[] = {&one, &two, &three};
  for (WeightType type : kWeightTypes) {
    for (int trial = 0; trial < testing::effort(10, 3); ++trial) {
      const int64_t n = 1 + static_cast<int64_t>(random() % 150);
      const int64_t units = 1 + static_cast<int64_t>(random() % (block_elements(type) == 256 ? 4 : 23));
      const int64_t k = is_float(type) ? units * 29 + 1 : units * block_elements(type);
      const int64_t rows = trial == 0 ? 1 : trial == 1 ? 0 : static_cast<int64_t>(random() % 71);
      const int64_t x_stride = k + static_cast<int64_t>(random() % 5);
      const int64_t y_stride = n + static_cast<int64_t>(random() % 5);
      const Packed packed = pack(type, n, k, random_source(type, n, k, random));
      const std::vector<float> x = random_rows(rows * x_stride, random);
      for (Math math : kMaths) {
        const std::vector<float> expected =
            multiply(packed.weight, x, x_stride, rows, math, Isa::scalar, one, y_stride);
        for (Isa isa : fast_isas()) {
          const std::vector<float> got =
              multiply(packed.weight, x, x_stride, rows, math, isa, *pools[random() % 3], y_stride);
          ASSERT_EQ(expected.size(), got.size());
          ASSERT_TRUE(expected.empty() || std::memcmp(expected.data(), got.data(), expected.size() * 4) == 0)
              << describe(type, math, isa, n, k, rows);
        }
      }
    }
  }
}

TEST(LinearKernels, EqualTheReferenceAtTheEndsOfEveryRange) {
  const uint64_t seed = test_seed();
  PRINT_SEED(seed);
  Random random(seed);
  FloatEnvironment environment;
  ThreadPool threads(1);
  const float infinity = std::numeric_limits<float>::infinity();
  for (WeightType type : kWeightTypes) {
    if (is_float(type)) continue;
    // All quants at the least or greatest stored value: 0x00 and 0xff for 4 to 6 bits, 0x80 and 0x7f for 8.
    for (int extreme : {0x00, 0xff, 0x80, 0x7f, 0x01}) {
      const int64_t n = 19, k = 512, rows = 13;
      const Packed packed = pack(type, n, k, random_source(type, n, k, random, extreme));
      std::vector<float> x(static_cast<size_t>(rows * k));
      for (int64_t j = 0; j < k; ++j) {
        const float normal = std::normal_distribution<float>()(random);
        const float row_values[rows] = {1.0f,
                                        -1.0f,
                                        j % 2 ? 1.0f : -1.0f,
                                        j % 4 < 2 ? 1.0f : -1.0f,
                                        j % 32 < 16 ? 1.0f : -1.0f,
                                        normal * 1e38f * 0.3f,
                                        normal * 0x1p-126f,
                                        j % 7 == 0 ? 0x1p-149f : 0.0f,
                                        j == 40 ? infinity : normal,
                                        j == 511 ? -std::nanf("") : 1.0f,
                                        j < 100 ? 0.0f : normal * 0x1p-95f,
                                        j / 32 % 2 ? 3.4e38f : -3.4e38f,
                                        0.0f};
        for (int64_t row = 0; row < rows; ++row) x[static_cast<size_t>(row * k + j)] = row_values[row];
      }
      for (Math math : kMaths) {
        const std::vector<float> expected = multiply(packed.weight, x, k, rows, math, Isa::scalar, threads);
        for (Isa isa : fast_isas()) {
          const std::string what = describe(type, math, isa, n, k, rows);
          expect_same(expected, multiply(packed.weight, x, k, rows, math, isa, threads), what);
          for (int64_t row = 0; row < rows; ++row) {  // and the kernel of a single row
            const std::vector<float> alone(x.begin() + row * k, x.begin() + (row + 1) * k);
            const std::vector<float> part(expected.begin() + row * n, expected.begin() + (row + 1) * n);
            expect_same(part, multiply(packed.weight, alone, k, 1, math, isa, threads), what + " alone");
          }
        }
        if (math != Math::f32) {
          for (int64_t i = 0; i < n; ++i) {
            EXPECT_TRUE(std::isnan(expected[static_cast<size_t>(8 * n + i)]));
            EXPECT_TRUE(std::isnan(expected[static_cast<size_t>(9 * n + i)]));
            EXPECT_EQ(expected[static_cast<size_t>(12 * n + i)], 0.0f);
          }
        }
      }
    }
  }
}

TEST(LinearKernels, GiveARowTheSameBitsInAnyBatchAndOnAnyThreads) {
  const uint64_t seed = test_seed();
  PRINT_SEED(seed);
  Random random(seed);
  FloatEnvironment environment;
  ThreadPool one(1), three(3);
  for (WeightType type : kWeightTypes) {
    const int64_t n = 70, k = 768, rows = 300;
    const Packed packed = pack(type, n, k, random_source(type, n, k, random));
    const std::vector<float> x = random_rows(rows * k, random);
    for (Isa isa : fast_isas()) {
      for (Math math : kMaths) {
        const std::vector<float> whole = multiply(packed.weight, x, k, rows, math, isa, three);
        for (int64_t row : {0, 5, 127, 128, 299}) {
          const std::vector<float> input(x.begin() + row * k, x.begin() + (row + 1) * k);
          const std::vector<float> alone = multiply(packed.weight, input, k, 1, math, isa, one);
          ASSERT_EQ(std::memcmp(alone.data(), &whole[static_cast<size_t>(row * n)], static_cast<size_t>(n) * 4), 0)
              << describe(type, math, isa, n, k, rows) << " row " << row;
        }
      }
    }
  }
}

TEST(LinearKernels, GiveTargetsThatShareAnInputTheBitsOfEachAlone) {
  Random random(test_seed());
  FloatEnvironment environment;
  ThreadPool one(1), three(3);
  const int64_t k = 512, rows = 150;
  const Packed a = pack(WeightType::Q5_0, 100, k, random_source(WeightType::Q5_0, 100, k, random));
  const Packed b = pack(WeightType::Q6_K, 33, k, random_source(WeightType::Q6_K, 33, k, random));
  const Packed c = pack(WeightType::F16, 7, k, random_source(WeightType::F16, 7, k, random));
  const std::vector<float> x = random_rows(rows * k, random);
  for (Math math : kMaths) {
    for (int64_t count : {int64_t{1}, rows}) {
      std::vector<float> outputs[3];
      std::vector<LinearTarget> targets;
      for (const Packed* packed : {&a, &b, &c}) {
        std::vector<float>& y = outputs[targets.size()];
        y.resize(static_cast<size_t>(count * packed->weight.n));
        targets.push_back({packed->weight, y.data(), packed->weight.n});
      }
      std::vector<uint8_t> scratch(activation_bytes(math, count, k));
      linear(x.data(), k, count, k, targets, math, scratch.data(), three, Isa::avx2);
      for (size_t i = 0; i < 3; ++i) {
        expect_same(multiply(targets[i].weight, x, k, count, math, Isa::scalar, one), outputs[i], "target");
      }
    }
  }
}

}  // namespace
}  // namespace kvass
