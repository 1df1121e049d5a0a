// Integer dots (block_dots.h) for AVX2. Included by the units of that set only. No state.
#pragma once

// clang-format off
#include "kernels/simd/avx2.h"  // first: the others are written over it
// clang-format on

#include "kernels/linear/generic.h"

namespace kvass::avx2 {

// Integer dots without a dot instruction. Eight bits: vpmaddubsw of unsigned weights and signed activations, summed in
// int16 over a whole part of a block. That sum is exact because it is taken around the middle of the weights' range:
// each vpmaddubsw is within 2 · 63 · 127 = 16,002, and the start −offset · Σq brings the total, whatever wraps on the
// way, to at most 16 · 16 · 127 (5 bits, 8 groups) or 8 · 32 · 127 (6 bits, 4 groups) = 32,512; 4 bits need no start:
// 16 · 15 · 127 = 30,480.
struct Dot {
  using I = V::I;

  template <WeightType, class Block>
  static consteval int tile_rows() {
    return 4;  // 6 would fit the registers and is no faster; with 4 nothing is spilled
  }

  // GCC would reassociate the integer sums, computing all products first and spilling them.
  KVASS_INLINE I in_order(I sum) {
    asm("" : "+x"(sum.lo), "+x"(sum.hi));
    return sum;
  }

  template <bool kSigned>
  KVASS_INLINE I even16(I w) {
    if constexpr (!kSigned) return V::andi(w, V::set1i(0x00ff00ff));
    return {_mm256_srai_epi16(_mm256_slli_epi16(w.lo, 8), 8), _mm256_srai_epi16(_mm256_slli_epi16(w.hi, 8), 8)};
  }
  template <bool kSigned>
  KVASS_INLINE I odd16(I w) {
    if constexpr (!kSigned) return {_mm256_srli_epi16(w.lo, 8), _mm256_srli_epi16(w.hi, 8)};
    return {_mm256_srai_epi16(w.lo, 8), _mm256_srai_epi16(w.hi, 8)};
  }
  KVASS_INLINE I centre16(I w, int offset) {
    const __m256i all = _mm256_set1_epi16(static_cast<int16_t>(offset));
    return {_mm256_sub_epi16(w.lo, all), _mm256_sub_epi16(w.hi, all)};
  }
  KVASS_INLINE I madd16(I acc, I w, I a) {
    return in_order(V::addi(acc, {_mm256_madd_epi16(w.lo, a.lo), _mm256_madd_epi16(w.hi, a.hi)}));
  }

  template <WeightType kType>
  static consteval int centre() {  // what start8 takes off every weight
    return panel_format(kType).bits == 5 ? 16 : panel_format(kType).offset;
  }
  template <WeightType kType>
  KVASS_INLINE I encode8(I w) {
    return w;
  }
  template <WeightType kType>
  KVASS_INLINE I start8([[maybe_unused]] const ActivationBlock8& block, [[maybe_unused]] int part) {
    if constexpr (centre<kType>() == 0) {
      return V::zeroi();
    } else {
      const __m256i pairs = _mm256_set1_epi32(load_four(block.negated_pair_sums[part]));
      const __m256i start = _mm256_slli_epi16(pairs, __builtin_ctz(centre<kType>()));
      return {start, start};
    }
  }
  template <WeightType kType>
  KVASS_INLINE I add8(I acc, I w, I a) {
    if constexpr (panel_format(kType).signed_bytes()) {
      // |w| · (a with w's sign): a pair is within 2 · 128 · 127 = 32,512
      const __m256i ones = _mm256_set1_epi16(1);
      const __m256i lo = _mm256_maddubs_epi16(_mm256_abs_epi8(w.lo), _mm256_sign_epi8(a.lo, w.lo));
      const __m256i hi = _mm256_maddubs_epi16(_mm256_abs_epi8(w.hi), _mm256_sign_epi8(a.hi, w.hi));
      return in_order(V::addi(acc, {_mm256_madd_epi16(lo, ones), _mm256_madd_epi16(hi, ones)}));
    } else {
      return in_order({_mm256_add_epi16(acc.lo, _mm256_maddubs_epi16(w.lo, a.lo)),
                       _mm256_add_epi16(acc.hi, _mm256_maddubs_epi16(w.hi, a.hi))});
    }
  }
  template <WeightType kType>
  KVASS_INLINE I finish8(I acc, [[maybe_unused]] const ActivationBlock8& block, [[maybe_unused]] int part) {
    if constexpr (panel_format(kType).signed_bytes()) return acc;
    const __m256i ones = _mm256_set1_epi16(1);
    I sum = {_mm256_madd_epi16(acc.lo, ones), _mm256_madd_epi16(acc.hi, ones)};
    constexpr int kBack = centre<kType>() - panel_format(kType).offset;
    if constexpr (kBack != 0) {
      const __m256i pairs = _mm256_set1_epi32(load_four(block.negated_pair_sums[part]));
      const __m256i back = _mm256_madd_epi16(pairs, _mm256_set1_epi16(kBack));
      sum = V::subi(sum, {back, back});
    }
    return sum;
  }
};

}  // namespace kvass::avx2
