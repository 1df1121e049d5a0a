// Weights in another type: close to what they were, the same however panels are divided, and defined for any bytes.
#include "ops/linear/requantise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace kvass {
namespace {

// [n][k] as packed float32, and as panels of `type`.
struct Matrix {
  int64_t n, k;
  std::vector<float> values;
  std::vector<uint8_t> floats;

  Matrix(int64_t n, int64_t k) : n(n), k(k) {
    std::mt19937 random(5);
    for (int64_t i = 0; i < n * k; ++i) {
      values.push_back(static_cast<float>(static_cast<double>(random()) * 0x1p-31 - 1.0));
    }
    pack();
  }
  void pack() {
    floats.resize(packed_bytes(WeightType::F32, n, k).value());
    pack_panels(WeightType::F32, reinterpret_cast<const uint8_t*>(values.data()), n, k, 0, panel_count(n),
                floats.data());
  }
  PackedWeight packed() const { return {WeightType::F32, n, k, floats.data()}; }
  std::vector<uint8_t> as(WeightType type) const {
    std::vector<uint8_t> out(packed_bytes(type, n, k).value());
    requantise_panels(packed(), type, 0, panel_count(n), out.data());
    return out;
  }
  // The largest distance of a weight from what it was.
  float error(WeightType type) const {
    const std::vector<uint8_t> out = as(type);
    std::vector<float> row(static_cast<size_t>(k));
    float most = 0.0f;
    for (int64_t i = 0; i < n; ++i) {
      unpack_row({type, n, k, out.data()}, i, row.data());
      for (int64_t j = 0; j < k; ++j) {
        most = std::max(most, std::fabs(row[static_cast<size_t>(j)] - values[static_cast<size_t>(i * k + j)]));
      }
    }
    return most;
  }
};

TEST(Requantise, WeightsStayAsCloseAsTheTypeAllows) {
  const Matrix matrix(21, 96);  // weights in [-1, 1)
  EXPECT_EQ(matrix.error(WeightType::F32), 0.0f);
  EXPECT_LE(matrix.error(WeightType::F16), 0x1p-12f);
  EXPECT_LE(matrix.error(WeightType::BF16), 0x1p-9f);
  EXPECT_LE(matrix.error(WeightType::Q8_0), 0.51f / 127.0f);
  EXPECT_LE(matrix.error(WeightType::Q4_0), 1.01f / 8.0f);  // the largest of the other sign is cut by up to a step
}

TEST(Requantise, WhatATypeCanSayComesBackExactly) {
  Matrix matrix(16, 32);
  for (size_t i = 0; i < matrix.values.size(); ++i) {
    matrix.values[i] = static_cast<float>(static_cast<int>(i % 16) - 8) * 0.25f;
  }
  matrix.pack();
  EXPECT_EQ(matrix.error(WeightType::Q4_0), 0.0f);
  EXPECT_EQ(matrix.error(WeightType::F16), 0.0f);
}

TEST(Requantise, PanelsAreTheSameInAnyDivision) {
  const Matrix matrix(70, 64);
  for (WeightType type : {WeightType::Q8_0, WeightType::Q4_0, WeightType::F16}) {
    const std::vector<uint8_t> whole = matrix.as(type);
    std::vector<uint8_t> parts(whole.size());
    for (int64_t panel = 4; panel >= 0; --panel) {
      requantise_panels(matrix.packed(), type, panel, panel + 1, parts.data());
    }
    EXPECT_EQ(whole, parts);
  }
}

TEST(Requantise, ZerosInfinitiesAndWhatIsNoNumberAreDefined) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> row(32, 0.0f);
  std::vector<uint8_t> out(64);
  quantise_row(WeightType::Q8_0, row.data(), 32, out.data());
  EXPECT_EQ(out, std::vector<uint8_t>(64));
  row[0] = kInfinity;
  row[1] = -kInfinity;
  row[2] = std::numeric_limits<float>::quiet_NaN();
  row[3] = 1e30f;
  for (WeightType type : {WeightType::Q8_0, WeightType::Q4_0, WeightType::F16, WeightType::BF16}) {
    quantise_row(type, row.data(), 32, out.data());
  }
}

TEST(Requantise, RowsThatDoNotFitKeepTheirType) {
  EXPECT_EQ(stored_type(WeightType::F16, 48, WeightType::Q8_0), WeightType::F16);
  EXPECT_EQ(stored_type(WeightType::F16, 64, WeightType::Q8_0), WeightType::Q8_0);
  EXPECT_EQ(stored_type(WeightType::Q4_K, 256, std::nullopt), WeightType::Q4_K);
  EXPECT_EQ(parse_weight_type("Q8_0").value(), WeightType::Q8_0);
  EXPECT_EQ(parse_weight_type("bf16").value(), WeightType::BF16);
  EXPECT_FALSE(parse_weight_type("q4_k").ok());
  EXPECT_FALSE(parse_weight_type("").ok());
}

}  // namespace
}  // namespace kvass
