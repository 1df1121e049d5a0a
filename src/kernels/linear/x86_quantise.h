// Activations to 8 or 16 bits (docs/numerics.md, 5; the blocks are linear.h's), in 256-bit vectors, for both x86
// instruction sets. Included by their units only. No state.
#pragma once

#include "kernels/linear/byte_blocks.h"

namespace kvass {

// The greatest |x| of 32 floats as its bits, which order as integers; 0x7f800000 and more where one is not finite.
KVASS_INLINE int32_t greatest_magnitude(const __m256 (&x)[4]) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  __m256i bits[4];
  for (int i = 0; i < 4; ++i) bits[i] = _mm256_and_si256(_mm256_castps_si256(x[i]), mask);
  const __m256i eight = _mm256_max_epi32(_mm256_max_epi32(bits[0], bits[1]), _mm256_max_epi32(bits[2], bits[3]));
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// 32 integers within int8 to bytes, in index order.
KVASS_INLINE __m256i pack_bytes(const __m256i (&q)[4]) {
  // Packing works in 128-bit lanes: the dwords come out as 0 2 4 6 1 3 5 7.
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3])),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

KVASS_INLINE int32_t sum_lanes(__m256i x) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// fill_block: q are 32 integers in index order.
template <int kPlanes>
KVASS_INLINE void fill_block(const __m256i (&q)[4], ByteBlock<kPlanes>& block) {
  if constexpr (kPlanes == 1) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.q[0]), pack_bytes(q));
  } else {
    __m256i high[4], low[4];
    for (int i = 0; i < 4; ++i) {
      high[i] = _mm256_srai_epi32(_mm256_add_epi32(q[i], _mm256_set1_epi32(128)), 8);
      low[i] = _mm256_sub_epi32(q[i], _mm256_slli_epi32(high[i], 8));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.q[0]), pack_bytes(high));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.q[1]), pack_bytes(low));
  }
  const int32_t first = sum_lanes(_mm256_add_epi32(q[0], q[1]));
  const int32_t second = sum_lanes(_mm256_add_epi32(q[2], q[3]));
  block.sum = static_cast<float>(first + second);
  block.negated_sums[0] = -(first + second);
  block.negated_sums[1] = -first;
  block.negated_sums[2] = -second;
}

KVASS_INLINE void fill_block(const __m256i (&q)[4], ActivationBlock8& block) {
  const __m256i packed = pack_bytes(q);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.q), packed);
  // A dword: q0 + q1 and q2 + q3 of a group; a 128-bit lane: the four groups of a half.
  __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), packed);
  pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0x4e));
  pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0xb1));
  const __m128i first = _mm256_castsi256_si128(pairs);
  const __m128i second = _mm256_extracti128_si256(pairs, 1);
  const __m128i whole = _mm_add_epi16(first, second);
  const int32_t negated[3] = {_mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), whole)),
                              _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), first)),
                              _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), second))};
  __builtin_memcpy(block.negated_pair_sums, negated, sizeof(negated));
  block.sum = static_cast<float>(_mm_cvtsi128_si32(_mm_madd_epi16(whole, _mm_set1_epi16(1))));
}

KVASS_INLINE void fill_block(const __m256i (&q)[4], ActivationBlock16& block) {
  for (int half = 0; half < 2; ++half) {
    const __m256i a = _mm256_shuffle_epi32(q[half * 2], 0xd8);  // q0 q2 q1 q3 of each group
    const __m256i b = _mm256_shuffle_epi32(q[half * 2 + 1], 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.q + half * 16),
                        _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
    block.negated_sums[1 + half] = -sum_lanes(_mm256_add_epi32(a, b));
  }
  block.negated_sums[0] = block.negated_sums[1] + block.negated_sums[2];
  block.sum = static_cast<float>(-block.negated_sums[0]);
}

template <class Block>
static void quantise_rows(const QuantiseParams& p) {
  const float qmax = sizeof(Block::q) == kBlock ? kQmax8 : kQmax16;
  constexpr int32_t kInfinity = 0x7f800000;
  Block* out = static_cast<Block*>(p.activations);
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t k = 0; k < p.k; k += kBlock, ++out) {
      const float* source = p.x + row * p.x_stride + k;
      float padded[kBlock];
      if (p.k - k < kBlock) {
        for (int i = 0; i < kBlock; ++i) padded[i] = k + i < p.k ? source[i] : 0.0f;
        source = padded;
      }
      __m256 x[4];
      for (int i = 0; i < 4; ++i) x[i] = _mm256_loadu_ps(source + 8 * i);
      const int32_t bits = greatest_magnitude(x);
      const float amax = __builtin_bit_cast(float, bits);
      __m256i q[4];
      if (bits < kInfinity && amax >= kAmaxFloor) {
        out->scale = amax / qmax;
        const __m256 inverse = _mm256_set1_ps(qmax / amax);
        for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));  // nearest even
      } else {
        out->scale = bits < kInfinity ? 0.0f : __builtin_nanf("");
        for (int i = 0; i < 4; ++i) q[i] = _mm256_setzero_si256();
      }
      fill_block(q, *out);
    }
  }
}

}  // namespace kvass
