// Sixteen float32 or int32 lanes as one 512-bit register: AVX-512 F, BW, DQ, VL and VNNI. Included by *_avx512vnni.cc
// only. With KVASS_EMULATE_AVX512 the intrinsics come from SIMDe, so that these kernels are tested on machines without
// AVX-512. The reductions fold by docs/numerics.md, 3: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
#pragma once

#if defined(KVASS_EMULATE_AVX512)
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#else
#include <immintrin.h>
#endif

#include <cstdint>

#define KVASS_INLINE static inline __attribute__((always_inline))

namespace kvass::avx512vnni {

#if defined(KVASS_EMULATE_AVX512)
// Not inlined, because a kernel has hundreds of these calls.
static __attribute__((noinline, unused)) __m512i dot_words(__m512i acc, __m512i w, __m512i a) {
  int32_t sums[16];
  int16_t ws[32], as[32];
  _mm512_storeu_si512(sums, acc);
  _mm512_storeu_si512(ws, w);
  _mm512_storeu_si512(as, a);
  for (int i = 0; i < 32; ++i) sums[i / 2] += ws[i] * as[i];
  return _mm512_loadu_si512(sums);
}
static __attribute__((noinline, unused)) __m512i dot_bytes(__m512i acc, __m512i w, __m512i a) {
  int32_t sums[16];
  uint8_t ws[64];
  int8_t as[64];
  _mm512_storeu_si512(sums, acc);
  _mm512_storeu_si512(ws, w);
  _mm512_storeu_si512(as, a);
  for (int i = 0; i < 64; ++i) sums[i / 4] += ws[i] * as[i];
  return _mm512_loadu_si512(sums);
}
#else
KVASS_INLINE __m512i dot_words(__m512i acc, __m512i w, __m512i a) { return _mm512_dpwssd_epi32(acc, w, a); }
KVASS_INLINE __m512i dot_bytes(__m512i acc, __m512i w, __m512i a) { return _mm512_dpbusd_epi32(acc, w, a); }
#endif

struct V {
  static constexpr int kLanes = 16;
  using F = __m512;
  using I = __m512i;
  using M = __mmask16;

  KVASS_INLINE F zero() { return _mm512_setzero_ps(); }
  KVASS_INLINE F set1(float x) { return _mm512_set1_ps(x); }
  KVASS_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
  KVASS_INLINE void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  KVASS_INLINE F load_f16(const uint16_t* p) {
#if defined(KVASS_EMULATE_AVX512)
    const __m256 lo = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256 hi = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)));
    return _mm512_insertf32x8(_mm512_castps256_ps512(lo), hi, 1);
#else
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#endif
  }
  KVASS_INLINE F load_bf16(const uint16_t* p) {
#if defined(KVASS_EMULATE_AVX512)
    uint32_t lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = static_cast<uint32_t>(p[i]) << 16;
    return _mm512_castsi512_ps(_mm512_loadu_si512(lanes));
#else
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
#endif
  }

  KVASS_INLINE F load_doubled(const float* p) {  // 8 floats, each in two neighbouring lanes
    const __m512i lanes = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    return _mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
  }
  KVASS_INLINE F swap_pairs(F x) { return _mm512_shuffle_ps(x, x, 0xb1); }

  KVASS_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
  KVASS_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  KVASS_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  KVASS_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
  KVASS_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  KVASS_INLINE F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
  KVASS_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
  KVASS_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
  KVASS_INLINE F sqrt(F x) { return _mm512_sqrt_ps(x); }
  KVASS_INLINE F abs(F x) { return _mm512_abs_ps(x); }
  KVASS_INLINE F rint(F x) { return _mm512_roundscale_ps(x, 0); }

  KVASS_INLINE M lt(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  KVASS_INLINE M gt(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  KVASS_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
  KVASS_INLINE M mask(uint32_t bits) { return static_cast<M>(bits); }  // lane i is bit i

  KVASS_INLINE I zeroi() { return _mm512_setzero_si512(); }
  KVASS_INLINE I set1i(int32_t x) { return _mm512_set1_epi32(x); }
  KVASS_INLINE I loadi(const void* p) { return _mm512_loadu_si512(p); }  // 64 bytes
  KVASS_INLINE void storei(void* p, I x) { _mm512_storeu_si512(p, x); }  // 64 bytes
  KVASS_INLINE I load_u8(const uint8_t* p) {                             // 16 bytes, one for each lane
#if defined(KVASS_EMULATE_AVX512)
    int32_t lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = p[i];
    return _mm512_loadu_si512(lanes);
#else
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#endif
  }
  KVASS_INLINE I load_i8(const int8_t* p) {
#if defined(KVASS_EMULATE_AVX512)
    int32_t lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = p[i];
    return _mm512_loadu_si512(lanes);
#else
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#endif
  }
  KVASS_INLINE void store_i8(int8_t* p, I x) {  // 16 bytes; every lane within int8
#if defined(KVASS_EMULATE_AVX512)
    int32_t lanes[16];
    _mm512_storeu_si512(lanes, x);
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(lanes[i]);
#else
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
#endif
  }

  // Exact dot products of signed bytes, four bytes in each lane: w from memory, a the same in all lanes. vpdpbusd takes
  // w + 128; dot_start subtracts the 128 again.
  using B = __m512i;
  KVASS_INLINE B bytes(const void* p) {  // 64 bytes
    return _mm512_xor_si512(loadi(p), set1i(static_cast<int>(0x80808080u)));
  }
  KVASS_INLINE I dot_start(int32_t sum) { return set1i(-128 * sum); }  // the argument: the sum of all a
  KVASS_INLINE I dot(I acc, B w, I a) { return avx512vnni::dot_bytes(acc, w, a); }
  // The dot products of unsigned bytes w and signed bytes a.
  KVASS_INLINE I dot_bytes(I acc, I w, I a) { return avx512vnni::dot_bytes(acc, w, a); }

  KVASS_INLINE I addi(I a, I b) { return _mm512_add_epi32(a, b); }
  KVASS_INLINE I subi(I a, I b) { return _mm512_sub_epi32(a, b); }
  KVASS_INLINE I andi(I a, I b) { return _mm512_and_si512(a, b); }
  KVASS_INLINE I ori(I a, I b) { return _mm512_or_si512(a, b); }
  KVASS_INLINE I xori(I a, I b) { return _mm512_xor_si512(a, b); }
  KVASS_INLINE I slli(I a, int n) { return _mm512_slli_epi32(a, static_cast<unsigned>(n)); }
  KVASS_INLINE I srli(I a, int n) { return _mm512_srli_epi32(a, static_cast<unsigned>(n)); }
  KVASS_INLINE I high_nibbles(I a) { return andi(srli(a, 4), set1i(0x0f0f0f0f)); }  // the high four bits of each byte
  KVASS_INLINE I put_bits(I a, I b, I mask) { return ori(a, andi(b, mask)); }       // a has zeros in the mask
  // Of each byte, 0 to 15, the byte of that index in `values`.
  KVASS_INLINE I look_up(I a, const int8_t* values) {
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), a);
  }
  KVASS_INLINE I srai(I a, int n) {
#if defined(KVASS_EMULATE_AVX512)
    int32_t lanes[16];
    _mm512_storeu_si512(lanes, a);
    for (int32_t& lane : lanes) lane >>= n;
    return _mm512_loadu_si512(lanes);
#else
    return _mm512_srai_epi32(a, static_cast<unsigned>(n));
#endif
  }
  KVASS_INLINE I to_int(F x) {
#if defined(KVASS_EMULATE_AVX512)
    float lanes[16];
    int32_t rounded[16];
    _mm512_storeu_ps(lanes, x);
    for (int i = 0; i < 16; ++i) rounded[i] = _mm_cvtss_si32(_mm_set_ss(lanes[i]));
    return _mm512_loadu_si512(rounded);
#else
    return _mm512_cvtps_epi32(x);
#endif
  }
  KVASS_INLINE F to_float(I x) {
#if defined(KVASS_EMULATE_AVX512)
    int32_t lanes[16];
    float converted[16];
    _mm512_storeu_si512(lanes, x);
    for (int i = 0; i < 16; ++i) converted[i] = static_cast<float>(lanes[i]);
    return _mm512_loadu_ps(converted);
#else
    return _mm512_cvtepi32_ps(x);
#endif
  }
  KVASS_INLINE I bits(F x) { return _mm512_castps_si512(x); }
  KVASS_INLINE F from_bits(I x) { return _mm512_castsi512_ps(x); }

  KVASS_INLINE __m256 upper(F x) { return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)); }
  KVASS_INLINE float reduce_add(F x) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), upper(x));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  KVASS_INLINE float reduce_max(F x) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x), upper(x));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
};

}  // namespace kvass::avx512vnni
