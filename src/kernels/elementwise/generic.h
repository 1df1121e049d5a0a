// The elementwise kernels over a lane set V.
#pragma once

#include "kernels/elementwise/elementwise.h"
#include "kernels/functions.h"
#include "kernels/simd/partial.h"

namespace kvass {

template <class V>
static inline __attribute__((always_inline)) void add_row(const float* a, const float* b, float* y, int64_t n) {
  const int64_t whole = n & ~int64_t{V::kLanes - 1};
  const int64_t rest = n - whole;
  for (int64_t i = 0; i < whole; i += V::kLanes) V::store(y + i, V::add(V::load(a + i), V::load(b + i)));
  if (rest != 0) {
    store_partial<V>(y + whole, V::add(load_partial<V>(a + whole, rest), load_partial<V>(b + whole, rest)), rest);
  }
}

template <class V>
static inline __attribute__((always_inline)) void scale_row(const float* x, float factor, float* y, int64_t n) {
  const typename V::F f = V::set1(factor);
  const int64_t whole = n & ~int64_t{V::kLanes - 1};
  const int64_t rest = n - whole;
  for (int64_t i = 0; i < whole; i += V::kLanes) V::store(y + i, V::mul(V::load(x + i), f));
  if (rest != 0) store_partial<V>(y + whole, V::mul(load_partial<V>(x + whole, rest), f), rest);
}

template <class V>
static inline __attribute__((always_inline)) void softcap_row(const float* x, float cap, float* y, int64_t n) {
  const typename V::F c = V::set1(cap);
  const int64_t whole = n & ~int64_t{V::kLanes - 1};
  const int64_t rest = n - whole;
  for (int64_t i = 0; i < whole; i += V::kLanes) V::store(y + i, softcap<V>(V::load(x + i), c));
  if (rest != 0) store_partial<V>(y + whole, softcap<V>(load_partial<V>(x + whole, rest), c), rest);
}

template <class V>
static inline __attribute__((always_inline)) void gelu_row(const float* x, float* y, int64_t n) {
  const int64_t whole = n & ~int64_t{V::kLanes - 1};
  const int64_t rest = n - whole;
  for (int64_t i = 0; i < whole; i += V::kLanes) V::store(y + i, gelu_erf<V>(V::load(x + i)));
  if (rest != 0) store_partial<V>(y + whole, gelu_erf<V>(load_partial<V>(x + whole, rest)), rest);
}

}  // namespace kvass
