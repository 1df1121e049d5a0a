// Scores against q8 keys over a lane set V: exact integer dot products of a query's bytes and the keys' bytes, 16 keys
// in a vector. Included by *_<isa>.cc through generic.h; everything here has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/attention/stored.h"
#include "kernels/quantise_q8/generic.h"

namespace kvass {
namespace {

// A quantised query row, stored in place of its floats: [head_dim] int8, float scale, int32 sum of all q.
struct QueryQ8 {
  template <class V>
  static inline __attribute__((always_inline)) void make(float* row, int64_t head_dim) {
    int8_t* q = reinterpret_cast<int8_t*>(row);
    const float scale = quantise_q8_row<V>(row, head_dim, q);
    int32_t sum = 0;
    for (int64_t d = 0; d < head_dim; ++d) sum += q[d];
    row[head_dim / 4] = scale;
    __builtin_memcpy(row + head_dim / 4 + 1, &sum, 4);
  }
  static inline __attribute__((always_inline)) int32_t four(const float* row, int64_t i) {  // q[4i … 4i + 3]
    int32_t word;
    __builtin_memcpy(&word, row + i, 4);
    return word;
  }
  static inline __attribute__((always_inline)) float scale(const float* row, int64_t head_dim) {
    return row[head_dim / 4];
  }
  static inline __attribute__((always_inline)) int32_t sum(const float* row, int64_t head_dim) {  // of all q
    return four(row, head_dim / 4 + 1);
  }
};

// s [R][64]: s = float(I) · ((scale_q · scale_k) · scale). k: group g of four channels of vector c at g · 256 + c · 64
// bytes; key_scales [C · 16].
template <class V, int R, int C>
void score_vectors_q8(const int8_t* k, const float* key_scales, const float* q, int64_t head_dim, float scale, float* s,
                      const uint8_t* ahead) {
  using F = typename V::F;
  using I = typename V::I;
  I sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const I start = V::dot_start(QueryQ8::sum(q + r * head_dim, head_dim));
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = start;
  }
  const float* q3 = R > 3 ? q + 3 * head_dim : q;
  const int64_t step = ahead ? C * 64 : 0;  // no branch in the loop, because GCC would spill the sums
  if (!ahead) ahead = reinterpret_cast<const uint8_t*>(k);
  for (int64_t g = 0; g < head_dim / 4; ++g) {
    typename V::B key[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) key[c] = V::bytes(k + c * 64);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const I x = V::set1i(QueryQ8::four(r < 3 ? q + r * head_dim : q3 + (r - 3) * head_dim, g));
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] = V::dot(sum[r][c], key[c], x);
    }
    prefetch<C * 64>(ahead);
    ahead += step;
    k += 4 * 64;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const F row_scale = V::set1(QueryQ8::scale(q + r * head_dim, head_dim));
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const F factor = V::mul(V::mul(row_scale, V::load(key_scales + c * 16)), V::set1(scale));
      V::store(s + r * 64 + c * 16, V::mul(V::to_float(sum[r][c]), factor));
    }
  }
}

// Replaces p of a tile by p · scale_v, the factors of q8 values. p, value_scales [64].
template <class V>
void scale_weights(float* p, const float* value_scales) {
  for (int c = 0; c < 64; c += 16) V::store(p + c, V::mul(V::load(p + c), V::load(value_scales + c)));
}

}  // namespace
}  // namespace kvass
