// Shared by the tests of the kernels: the instruction sets of this machine, random rows with awkward values, and
// equality of bits (NaN equals NaN: its payload and sign are not promised).
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/cpu.h"

namespace kvass::test {

// Every built set that this machine runs, without the reference. An emulated AVX-512 (KVASS_EMULATE_AVX512) runs
// everywhere.
inline std::vector<Isa> fast_isas() {
  std::vector<Isa> isas;
  CpuFeatures features = detect_cpu_features();
#if defined(KVASS_EMULATE_AVX512)
  features.avx512vnni = true;
#endif
  for (const Isa isa : kIsas) {
    if (isa != Isa::scalar && isa_available(isa, features)) isas.push_back(isa);
  }
  return isas;
}

using Random = std::mt19937_64;

// Normal values times `spread`.
inline std::vector<float> random_row(Random& random, size_t n, float spread = 1.0f) {
  std::normal_distribution<float> normal;
  std::vector<float> row(n);
  for (float& x : row) x = spread * normal(random);
  return row;
}

// As above, with zeros, denormals, the largest numbers, infinities and NaN at random places.
inline std::vector<float> awkward_row(Random& random, size_t n, float spread = 1.0f) {
  std::vector<float> row = random_row(random, n, spread);
  using Limits = std::numeric_limits<float>;
  const float awkward[] = {0.0f,
                           -0.0f,
                           Limits::denorm_min(),
                           -1e-40f,
                           1e-38f,
                           Limits::max(),
                           -Limits::max(),
                           Limits::infinity(),
                           -Limits::infinity(),
                           Limits::quiet_NaN(),
                           -88.0f,
                           88.8f,
                           -87.0f,
                           1e-20f,
                           -1e20f};
  for (float& x : row) {
    if (random() % 8 == 0) x = awkward[random() % std::size(awkward)];
  }
  return row;
}

inline ::testing::AssertionResult same_bits(const std::vector<float>& got, const std::vector<float>& expected) {
  if (got.size() != expected.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(expected[i])) continue;
    if (std::memcmp(&got[i], &expected[i], sizeof(float)) != 0) {
      return ::testing::AssertionFailure() << "element " << i << ": " << got[i] << ", expected " << expected[i];
    }
  }
  return ::testing::AssertionSuccess();
}

// |got - exact| in units in the last place of a float of the exact value's magnitude (at least the smallest normal
// number's).
inline double ulps(float got, double exact) {
  const int exponent = exact == 0.0 ? -126 : std::max(std::ilogb(exact), -126);
  return std::abs(static_cast<double>(got) - exact) / std::ldexp(1.0, exponent - 23);
}

}  // namespace kvass::test
