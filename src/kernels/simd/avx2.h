// Sixteen float32 or int32 lanes as two 256-bit registers: AVX2, FMA and F16C. Included by *_avx2.cc only.
// The reductions fold by docs/numerics.md, 3: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define KVASS_INLINE static inline __attribute__((always_inline))

namespace kvass::avx2 {

struct V {
  static constexpr int kLanes = 16;
  struct F {
    __m256 lo, hi;
  };
  struct I {
    __m256i lo, hi;
  };
  struct M {
    __m256 lo, hi;  // each lane is all ones or all zeros
  };

  KVASS_INLINE F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  KVASS_INLINE F set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  KVASS_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  KVASS_INLINE void store(float* p, F x) {
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
  }
  KVASS_INLINE F load_f16(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
  }
  KVASS_INLINE F load_bf16(const uint16_t* p) {
    const __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i hi = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
  }

  KVASS_INLINE F load_doubled(const float* p) {  // 8 floats, each in two neighbouring lanes
    const __m256 x = _mm256_loadu_ps(p);
    return {_mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
            _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
  }
  KVASS_INLINE F swap_pairs(F x) { return {_mm256_permute_ps(x.lo, 0xb1), _mm256_permute_ps(x.hi, 0xb1)}; }

  KVASS_INLINE F add(F a, F b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
  KVASS_INLINE F sub(F a, F b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
  KVASS_INLINE F mul(F a, F b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
  KVASS_INLINE F div(F a, F b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
  KVASS_INLINE F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
  KVASS_INLINE F fnma(F a, F b, F c) {
    return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
  }
  KVASS_INLINE F max(F a, F b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
  KVASS_INLINE F min(F a, F b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
  KVASS_INLINE F sqrt(F x) { return {_mm256_sqrt_ps(x.lo), _mm256_sqrt_ps(x.hi)}; }
  KVASS_INLINE F abs(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.lo), _mm256_andnot_ps(sign, x.hi)};
  }
  KVASS_INLINE F rint(F x) {
    return {_mm256_round_ps(x.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
            _mm256_round_ps(x.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }

  KVASS_INLINE M lt(F a, F b) { return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)}; }
  KVASS_INLINE M gt(F a, F b) { return {_mm256_cmp_ps(a.lo, b.lo, _CMP_GT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_GT_OQ)}; }
  KVASS_INLINE F select(M m, F a, F b) {
    return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
  }
  KVASS_INLINE M mask(uint32_t bits) {  // lane i is bit i
    const __m256i pick_lo = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i pick_hi = _mm256_slli_epi32(pick_lo, 8);
    const __m256i all = _mm256_set1_epi32(static_cast<int>(bits));
    return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, pick_lo), pick_lo)),
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, pick_hi), pick_hi))};
  }

  KVASS_INLINE I zeroi() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  KVASS_INLINE I set1i(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  KVASS_INLINE I loadi(const void* p) {  // 64 bytes
    const __m256i* q = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
  }
  KVASS_INLINE void storei(void* p, I x) {  // 64 bytes
    __m256i* q = static_cast<__m256i*>(p);
    _mm256_storeu_si256(q, x.lo);
    _mm256_storeu_si256(q + 1, x.hi);
  }
  KVASS_INLINE I load_u8(const uint8_t* p) {  // 16 bytes, one for each lane
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes))};
  }
  KVASS_INLINE I load_i8(const int8_t* p) {
    return {_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)))};
  }
  KVASS_INLINE void store_i8(int8_t* p, I x) {  // 16 bytes; every lane within int8
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.lo, x.hi), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }

  // Exact dot products of signed bytes, four bytes in each lane: w from memory, a (within ±127) the same in all lanes.
  // vpmaddubsw takes |w|, and a with w's sign: a pair is within 2 · 128 · 127 = 32,512.
  struct B {
    I magnitude, signs;
  };
  KVASS_INLINE B bytes(const void* p) {  // 64 bytes
    const I w = loadi(p);
    return {{_mm256_abs_epi8(w.lo), _mm256_abs_epi8(w.hi)}, w};
  }
  KVASS_INLINE I dot_start(int32_t) { return zeroi(); }  // the argument: the sum of all a
  KVASS_INLINE I dot(I acc, B w, I a) {
    return {dot_half(acc.lo, w.magnitude.lo, w.signs.lo, a.lo), dot_half(acc.hi, w.magnitude.hi, w.signs.hi, a.hi)};
  }

  KVASS_INLINE I addi(I a, I b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
  KVASS_INLINE I subi(I a, I b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
  KVASS_INLINE I andi(I a, I b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
  KVASS_INLINE I ori(I a, I b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
  KVASS_INLINE I xori(I a, I b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
  KVASS_INLINE I slli(I a, int n) { return {_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)}; }
  KVASS_INLINE I srli(I a, int n) { return {_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)}; }
  KVASS_INLINE I high_nibbles(I a) { return andi(srli(a, 4), set1i(0x0f0f0f0f)); }  // the high four bits of each byte
  KVASS_INLINE I put_bits(I a, I b, I mask) { return ori(a, andi(b, mask)); }       // a has zeros in the mask
  // Of each byte, 0 to 15, the byte of that index in `values`.
  KVASS_INLINE I look_up(I a, const int8_t* values) {
    const __m256i entries = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
    return {_mm256_shuffle_epi8(entries, a.lo), _mm256_shuffle_epi8(entries, a.hi)};
  }
  KVASS_INLINE I srai(I a, int n) { return {_mm256_srai_epi32(a.lo, n), _mm256_srai_epi32(a.hi, n)}; }
  KVASS_INLINE I to_int(F x) { return {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)}; }
  KVASS_INLINE F to_float(I x) { return {_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)}; }
  KVASS_INLINE I bits(F x) { return {_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)}; }
  KVASS_INLINE F from_bits(I x) { return {_mm256_castsi256_ps(x.lo), _mm256_castsi256_ps(x.hi)}; }

  KVASS_INLINE float reduce_add(F x) {
    const __m256 eight = _mm256_add_ps(x.lo, x.hi);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  KVASS_INLINE float reduce_max(F x) {
    const __m256 eight = _mm256_max_ps(x.lo, x.hi);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  KVASS_INLINE __m256i dot_half(__m256i acc, __m256i magnitude, __m256i w, __m256i a) {
    const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(a, w));
    const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    // Assembly keeps the sum in its register: GCC would compute all products first and spill the sums.
    asm volatile("vpaddd %1, %0, %0" : "+x"(acc) : "x"(fours));
    return acc;
  }
};

}  // namespace kvass::avx2
