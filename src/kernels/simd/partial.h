// Loads and stores of the first `count` lanes of a set V, for the tail of a row: missing lanes are +0 and are not
// stored. A tail goes through a buffer, so its elements have the same operations as all others.
#pragma once

#include <cstdint>

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) typename V::F load_partial(const float* p, int64_t count) {
  float lanes[V::kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return V::load(lanes);
}

template <class V>
static inline __attribute__((always_inline)) void store_partial(float* p, typename V::F x, int64_t count) {
  float lanes[V::kLanes];
  V::store(lanes, x);
  for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
}

}  // namespace kvass
