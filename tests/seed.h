// The seed of property tests: KVASS_TEST_SEED, or a fixed one. It is printed, so that a failure can be repeated.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>

namespace kvass::testing {

inline uint64_t test_seed() {
  const char* text = std::getenv("KVASS_TEST_SEED");
  const uint64_t seed = text != nullptr ? std::strtoull(text, nullptr, 10) : 20240917;
  std::cout << "KVASS_TEST_SEED=" << seed << std::endl;
  return seed;
}

class Random {
 public:
  Random() : engine_(test_seed()) {}
  // Uniform in [least, most]; the same numbers with every C++ library.
  int64_t integer(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(engine_() % static_cast<uint64_t>(most - least + 1));
  }
  // Uniform in [-1, 1).
  float real() { return static_cast<float>(static_cast<int64_t>(engine_() >> 40) - (int64_t{1} << 23)) * 0x1p-23f; }
  uint64_t bits() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

}  // namespace kvass::testing
