// The weights of every quantised type, from the blocks of a file to float32, against gguf-py: a checksum of 1,000
// blocks of any bits (tests/data/make_weight_goldens.py). And as every instruction set's kernels see them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/float_env.h"
#include "base/hash.h"
#include "ops/linear/linear.h"

namespace kvass {
namespace {

constexpr int64_t kRows = 40, kRowBlocks = 25;

// As in the script.
std::vector<uint8_t> random_bytes(uint64_t seed, size_t count) {
  std::vector<uint8_t> bytes(count + 8);
  for (size_t i = 0; i < count; i += 8) {
    uint64_t x = ((seed << 32) + i / 8 + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    std::memcpy(&bytes[i], &x, 8);
  }
  bytes.resize(count);
  return bytes;
}

uint64_t file_number(WeightType type) {
  switch (type) {
#define KVASS_WEIGHT_TYPE(name, number, elements, bytes, format) \
  case WeightType::name:                                         \
    return number;
#include "base/weight_types.inc"
    default:
      return 0;
  }
}

struct Packed {
  Block block;
  PackedWeight weight;
};

Packed pack(WeightType type, int64_t n, int64_t k, const std::vector<uint8_t>& source) {
  Packed packed;
  packed.block = Block::map(packed_bytes(type, n, k).value()).value();
  pack_panels(type, source.data(), n, k, 0, panel_count(n), packed.block.data());
  packed.weight = {type, n, k, packed.block.data()};
  return packed;
}

std::string hash_of_weights(const PackedWeight& weight) {
  Hasher hasher;
  std::vector<float> row(static_cast<size_t>(weight.k));
  for (int64_t i = 0; i < weight.n; ++i) {
    unpack_row(weight, i, row.data());
    for (float& value : row) {
      const uint32_t nan = 0x7fc00000;
      if (std::isnan(value)) std::memcpy(&value, &nan, 4);
    }
    hasher.add({reinterpret_cast<const uint8_t*>(row.data()), row.size() * sizeof(float)});
  }
  return hash_text(hasher.result());
}

std::map<std::string, std::string> goldens() {
  std::map<std::string, std::string> hashes;
  std::ifstream file(KVASS_TEST_DATA_DIR "/weights.txt");
  for (std::string line; std::getline(file, line);) {
    if (const size_t space = line.find(' '); line[0] != '#') hashes[line.substr(0, space)] = line.substr(space + 1);
  }
  return hashes;
}

TEST(Dequantise, EveryTypeHasTheWeightsOfItsDefinition) {
  const std::map<std::string, std::string> expected = goldens();
  for (const WeightType type : kWeightTypes) {
    if (!panel_format(type).quantised) continue;
    const std::string name(weight_type_name(whole_type(type)));
    ASSERT_TRUE(expected.contains(name)) << name;
    const int64_t k = kRowBlocks * panel_format(type).k_multiple();
    const uint64_t seed = file_number(whole_type(type));
    const Packed packed = pack(type, kRows, k, random_bytes(seed, source_bytes(type, kRows, k).value()));
    EXPECT_EQ(hash_of_weights(packed.weight), expected.at(name)) << weight_type_name(type);
  }
}

// Rows of the identity give single weights, and any sum of zeros around them.
TEST(Dequantise, TheKernelsOfEverySetHaveThoseWeights) {
  FloatEnvironment environment;
  ThreadPool threads(1);
  std::mt19937_64 random(7);
  for (const WeightType type : kWeightTypes) {
    const int64_t n = 19, k = 512;
    // Without bit 6 of a byte no f16 is other than a number, and none is large.
    std::vector<uint8_t> source(source_bytes(type, n, k).value());
    for (uint8_t& byte : source) byte = static_cast<uint8_t>(random() & 0xbf);
    const Packed packed = pack(type, n, k, source);
    std::vector<float> x(static_cast<size_t>(k * k));
    for (int64_t i = 0; i < k; ++i) x[static_cast<size_t>(i * k + i)] = 1.0f;
    std::vector<float> row(static_cast<size_t>(k));
    for (const Isa isa : kIsas) {
      if (!isa_available(isa, detect_cpu_features())) continue;
      std::vector<float> y(static_cast<size_t>(k * n));
      const LinearTarget target = {packed.weight, y.data(), n};
      linear(x.data(), k, k, k, {&target, 1}, Math::f32, nullptr, threads, isa);
      for (int64_t i = 0; i < n; ++i) {
        unpack_row(packed.weight, i, row.data());
        for (int64_t j = 0; j < k; ++j) {
          ASSERT_EQ(y[static_cast<size_t>(j * n + i)], row[static_cast<size_t>(j)])
              << weight_type_name(type) << ' ' << isa_name(isa) << " output " << i << " input " << j;
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvass
