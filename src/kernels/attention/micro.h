// The register-blocked loops of attention over a lane set V: scores of R rows against C·16 keys, and the sum of p · v
// over keys for R rows and C·16 channels. Each output is one chain in a register: of fmas, or of exact integer dot
// products for q8 scores. Only the blocking differs between instruction sets. Included by *_<isa>.cc through generic.h;
// everything here has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/attention/masks.h"
#include "kernels/attention/q8.h"
#include "kernels/attention/stored.h"

namespace kvass {
namespace {

// The number of 16-lane vectors of keys or channels that R rows process together: at most `accumulators` chains are
// live.
constexpr int vectors_for(int rows, int accumulators) {
  return accumulators / rows >= 4 ? 4 : accumulators / rows >= 2 ? 2 : 1;
}

// s [R][64]; k: element d, vector c at d · key_stride + c · vector_stride; q [R][head_dim]. `ahead`: as many bytes as k
// has are prefetched from there.
template <class V, class S, int R, int C>
void score_vectors(const typename S::T* k, int64_t key_stride, int64_t vector_stride, const float* q, int64_t head_dim,
                   float* s, const uint8_t* ahead) {
  using F = typename V::F;
  F sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = V::zero();
  }
  const float* q3 = R > 3 ? q + 3 * head_dim : q;  // two base pointers: each serves three rows, at 0, 1 and 2 strides
  for (int64_t d = 0; d < head_dim; ++d) {
    if constexpr (R == 1) {  // one vector after the other: with all of them at once GCC spills a sum
      const F x = V::set1(q[d]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[0][c] = V::fma(x, S::load(k + c * vector_stride), sum[0][c]);
    } else {
      F key[C];
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) key[c] = S::load(k + c * vector_stride);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const F x = V::set1(r < 3 ? q[r * head_dim + d] : q3[(r - 3) * head_dim + d]);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sum[r][c] = V::fma(x, key[c], sum[r][c]);
      }
    }
    if (ahead) {
      prefetch<C * 16 * static_cast<int>(sizeof(typename S::T))>(ahead);
      ahead += C * 16 * sizeof(typename S::T);
    }
    k += key_stride;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) V::store(s + r * 64 + c * 16, sum[r][c]);
  }
}

// o = o · factor, then o = fma(p, v, o) for keys [begin, end). o: row r, vector c at r · 16 + c · o_stride; v: key j,
// vector c at j · key_stride + c · vector_stride; p [R][64]; factor [R], 1 if m did not rise.
template <class V, class S, int R, int C>
void value_vectors(const typename S::T* v, int64_t key_stride, int64_t vector_stride, const float* p, int64_t begin,
                   int64_t end, const float* factor, float* o, int64_t o_stride, const uint8_t* ahead) {
  using F = typename V::F;
  F sum[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const F f = V::set1(factor[r]);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) sum[r][c] = V::mul(V::load(o + r * 16 + c * o_stride), f);
  }
  v += begin * key_stride;
  for (int64_t j = begin; j < end; ++j) {
    if constexpr (R == 1) {
      const F weight = V::set1(p[j]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[0][c] = V::fma(weight, S::load(v + c * vector_stride), sum[0][c]);
    } else {
      F value[C];
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) value[c] = S::load(v + c * vector_stride);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const F weight = V::set1(p[r * 64 + j]);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sum[r][c] = V::fma(weight, value[c], sum[r][c]);
      }
    }
    if (ahead) {
      prefetch<C * 16 * static_cast<int>(sizeof(typename S::T))>(ahead);
      ahead += C * 16 * sizeof(typename S::T);
    }
    v += key_stride;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) V::store(o + r * 16 + c * o_stride, sum[r][c]);
  }
}

// Scores of R rows against vectors [first, last) of a tile. Vectors whose keys no row sees (`seen`, bit = lane) are
// skipped.
template <class V, class S, int R, int kAccumulators>
void score_tile(const KeyView<typename S::T>& k, int first, int last, uint64_t seen, const float* q, int64_t head_dim,
                float* s) {
  constexpr int C = vectors_for(R, kAccumulators);
  const auto score = [&]<int kVectors>(int c) __attribute__((always_inline)) {
    const typename S::T* keys = k.data + c * k.vector_stride;
    const uint8_t* ahead = k.ahead && kVectors == C ? k.ahead + c * (k.bytes / 4) : nullptr;
    if constexpr (kIsQ8<typename S::T>) {
      const float* scales = reinterpret_cast<const float*>(k.data + head_dim * 64) + c * 16;
      score_vectors_q8<V, R, kVectors>(keys, scales, q, head_dim, k.scale, s + c * 16, ahead);
    } else {
      score_vectors<V, S, R, kVectors>(keys, k.stride, k.vector_stride, q, head_dim, s + c * 16, ahead);
    }
  };
  int c = first;
  for (; c + C <= last; c += C) {
    if (((seen >> (16 * c)) & (~uint64_t{0} >> (64 - 16 * C))) != 0) score.template operator()<C>(c);
  }
  if constexpr (C > 1) {
    for (; c < last; ++c) score.template operator()<1>(c);
  }
}

// Adds p · v of R rows for vectors [first, last) of the channels and keys [begin, end).
template <class V, class S, int R, int kAccumulators>
void value_tile(const ValueView<typename S::T>& v, int64_t first, int64_t last, const float* p, int64_t begin,
                int64_t end, const float* factor, float* o, int64_t o_stride) {
  constexpr int C = vectors_for(R, kAccumulators);
  constexpr int64_t kVectorBytes = 64 * 16 * static_cast<int64_t>(sizeof(typename S::T));  // bytes of 16 channels
  int64_t c = first;
  for (; c + C <= last; c += C) {
    value_vectors<V, S, R, C>(v.data + c * v.vector_stride, v.stride, v.vector_stride, p, begin, end, factor,
                              o + c * o_stride, o_stride, v.ahead ? v.ahead + c * kVectorBytes : nullptr);
  }
  if constexpr (C > 1) {
    for (; c < last; ++c) {
      value_vectors<V, S, R, 1>(v.data + c * v.vector_stride, v.stride, v.vector_stride, p, begin, end, factor,
                                o + c * o_stride, o_stride, nullptr);
    }
  }
}

// The template instances for 1 … 6 rows.
template <class V, class S, int kAccumulators>
struct Micro {
  using Score = void (*)(const KeyView<typename S::T>&, int, int, uint64_t, const float*, int64_t, float*);
  using Value = void (*)(const ValueView<typename S::T>&, int64_t, int64_t, const float*, int64_t, int64_t,
                         const float*, float*, int64_t);
  static constexpr Score score[kMicroRows + 1] = {
      nullptr,
      &score_tile<V, S, 1, kAccumulators>,
      &score_tile<V, S, 2, kAccumulators>,
      &score_tile<V, S, 3, kAccumulators>,
      &score_tile<V, S, 4, kAccumulators>,
      &score_tile<V, S, 5, kAccumulators>,
      &score_tile<V, S, 6, kAccumulators>,
  };
  static constexpr Value value[kMicroRows + 1] = {
      nullptr,
      &value_tile<V, S, 1, kAccumulators>,
      &value_tile<V, S, 2, kAccumulators>,
      &value_tile<V, S, 3, kAccumulators>,
      &value_tile<V, S, 4, kAccumulators>,
      &value_tile<V, S, 5, kAccumulators>,
      &value_tile<V, S, 6, kAccumulators>,
  };
};

}  // namespace
}  // namespace kvass
