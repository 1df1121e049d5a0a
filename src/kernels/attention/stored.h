// Reads the stored keys and values of a tile, over a lane set V: element types, views of a tile, and its expansion to
// float32. Included by *_<isa>.cc through generic.h; everything here has internal linkage.
#pragma once

#include <cstdint>

namespace kvass {
namespace {

// The element types of a tile and their loads.
template <class V>
struct StoredF32 {
  using T = float;
  static inline __attribute__((always_inline)) typename V::F load(const T* p) { return V::load(p); }
};
template <class V>
struct StoredF16 {
  using T = uint16_t;
  static inline __attribute__((always_inline)) typename V::F load(const T* p) { return V::load_f16(p); }
};
template <class V>
struct StoredBf16 {
  using T = uint16_t;
  static inline __attribute__((always_inline)) typename V::F load(const T* p) { return V::load_bf16(p); }
};

template <class V>
struct StoredQ8 {
  using T = int8_t;
  static inline __attribute__((always_inline)) typename V::F load(const T* p) { return V::to_float(V::load_i8(p)); }
};
template <class T>
constexpr bool kIsQ8 = sizeof(T) == 1;

// Views of the keys and of the values of one tile: in the cache (T is the storage type), or as float32 panels in
// scratch. `ahead`: the bytes to prefetch, laid out as this half of a tile; null: nothing.
template <class T>
struct KeyView {
  const T* data;
  int64_t stride;         // from channel d to d + 1; with q8 from one group of four channels to the next
  int64_t vector_stride;  // from 16 keys to the next 16
  float scale;            // q8: factor of the scores
  const uint8_t* ahead;
  int64_t bytes;  // size of a tile's keys in the cache
};
template <class T>
struct ValueView {
  const T* data;
  int64_t stride;         // from a key to the next
  int64_t vector_stride;  // from 16 channels to the next 16
  const uint8_t* ahead;
};

template <int kBytes>
static inline __attribute__((always_inline)) void prefetch(const uint8_t* p) {
#pragma GCC unroll 8
  for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

// K [head_dim][64] -> panels [4][head_dim][16], from the first to the last vector with a key in `any` (bit = lane, not
// 0).
template <class V, class S>
void expand_keys(const typename S::T* k, uint64_t any, int64_t head_dim, float* panels) {
  const int begin = __builtin_ctzll(any) / 16;
  const int end = (64 + 15 - __builtin_clzll(any)) / 16;
  for (int64_t d = 0; d < head_dim; ++d, k += 64) {
    for (int c = begin; c < end; ++c) V::store(panels + (c * head_dim + d) * 16, S::load(k + c * 16));
  }
}

// V, 64 rows -> panels [head_dim / 16][64][16], from the first to the last key in `any`.
template <class V, class S>
void expand_values(const typename S::T* v, int64_t v_stride, uint64_t any, int64_t head_dim, float* panels) {
  const int64_t end = 64 - __builtin_clzll(any);
  for (int64_t j = __builtin_ctzll(any); j < end; ++j) {
    for (int64_t d = 0; d < head_dim; d += 16) V::store(panels + d * 64 + j * 16, S::load(v + j * v_stride + d));
  }
}

}  // namespace
}  // namespace kvass
