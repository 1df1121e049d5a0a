// The two register-blocked loops of attention over a lane set V: scores of R rows against C·16 keys, and the sum over
// keys of p · v for R rows and C·16 channels. Each output is one fma chain in a register; only the blocking differs
// between instruction sets. Included by *_<isa>.cc through generic.h; everything here has internal linkage.
#pragma once

#include <cstdint>

namespace kvass {
namespace {

// How the elements of a tile are read.
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

// Sixteen-lane vectors of keys or channels that R rows take at a time, so that at most `accumulators` chains are live.
constexpr int vectors_for(int rows, int accumulators) {
  return accumulators / rows >= 4 ? 4 : accumulators / rows >= 2 ? 2 : 1;
}

template <int kBytes>
static inline __attribute__((always_inline)) void prefetch(const uint8_t* p) {
#pragma GCC unroll 8
  for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

// s [R][64] from the given pointers on; k: element d, vector c at d · key_stride + c · vector_stride; q [R][head_dim].
// `ahead` is read towards the cache, as many bytes as k.
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
  const float* q3 = R > 3 ? q + 3 * head_dim : q;  // two bases: rows 0 … 2 and 3 … 5 are at 0, 1, 2 strides from one
  for (int64_t d = 0; d < head_dim; ++d) {
    F key[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) key[c] = S::load(k + c * vector_stride);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F x = V::set1(r < 3 ? q[r * head_dim + d] : q3[(r - 3) * head_dim + d]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] = V::fma(x, key[c], sum[r][c]);
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
// vector c at j · key_stride + c · vector_stride; p [R][64]; factor [R], 1 where m did not rise.
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
    F value[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) value[c] = S::load(v + c * vector_stride);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F weight = V::set1(p[r * 64 + j]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] = V::fma(weight, value[c], sum[r][c]);
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

// One tile as the loops read it: in the cache (T the storage type), or as float32 panels in scratch.
template <class T>
struct TileView {
  const T* k;
  int64_t k_stride;         // from d to d + 1
  int64_t k_vector_stride;  // from 16 keys to the next 16
  const T* v;
  int64_t v_stride;           // from a key to the next
  int64_t v_vector_stride;    // from 16 channels to the next 16
  const uint8_t* ahead_of_v;  // read towards the cache while K is walked, as many bytes; null: nothing
  const uint8_t* ahead_of_k;  // and while V is
  int64_t key_bytes;          // of K, and of V
};

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

// Scores of R rows against vectors [first, last) of a tile; those whose keys no row sees (`seen`, bit = lane) are left
// out.
template <class V, class S, int R, int kAccumulators>
void score_tile(const TileView<typename S::T>& tile, int first, int last, uint64_t seen, const float* q,
                int64_t head_dim, float* s) {
  constexpr int C = vectors_for(R, kAccumulators);
  const int64_t quarter = tile.key_bytes / 4;
  int c = first;
  for (; c + C <= last; c += C) {
    if (((seen >> (16 * c)) & (~uint64_t{0} >> (64 - 16 * C))) == 0) continue;
    score_vectors<V, S, R, C>(tile.k + c * tile.k_vector_stride, tile.k_stride, tile.k_vector_stride, q, head_dim,
                              s + c * 16, tile.ahead_of_v ? tile.ahead_of_v + c * quarter : nullptr);
  }
  if constexpr (C > 1) {
    for (; c < last; ++c) {
      score_vectors<V, S, R, 1>(tile.k + c * tile.k_vector_stride, tile.k_stride, tile.k_vector_stride, q, head_dim,
                                s + c * 16, nullptr);
    }
  }
}

// p · v of R rows for vectors [first, last) of the channels and keys [begin, end).
template <class V, class S, int R, int kAccumulators>
void value_tile(const TileView<typename S::T>& tile, int64_t first, int64_t last, const float* p, int64_t begin,
                int64_t end, const float* factor, float* o, int64_t o_stride) {
  constexpr int C = vectors_for(R, kAccumulators);
  const uint8_t* ahead = tile.ahead_of_k;
  int64_t c = first;
  for (; c + C <= last; c += C) {
    value_vectors<V, S, R, C>(tile.v + c * tile.v_vector_stride, tile.v_stride, tile.v_vector_stride, p, begin, end,
                              factor, o + c * o_stride, o_stride,
                              ahead ? ahead + c * (64 * 16 * static_cast<int64_t>(sizeof(typename S::T))) : nullptr);
  }
  if constexpr (C > 1) {
    for (; c < last; ++c) {
      value_vectors<V, S, R, 1>(tile.v + c * tile.v_vector_stride, tile.v_stride, tile.v_vector_stride, p, begin, end,
                                factor, o + c * o_stride, o_stride, nullptr);
    }
  }
}

constexpr int kMicroRows = 6;  // most rows of a micro block

// The instances for 1 … 6 rows.
template <class V, class S, int kAccumulators>
struct Micro {
  using T = typename S::T;
  using Score = void (*)(const TileView<T>&, int, int, uint64_t, const float*, int64_t, float*);
  using Value = void (*)(const TileView<T>&, int64_t, int64_t, const float*, int64_t, int64_t, const float*, float*,
                         int64_t);
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
