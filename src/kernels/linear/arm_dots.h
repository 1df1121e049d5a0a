// Integer dots with sdot, for the AArch64 sets that have it: one row times a packed panel in all of them. Signed bytes
// on both sides: a weight of up to 6 bits is one as it is stored, an activation of 16 bits is two. Included by the
// units of those sets only. No state.
#pragma once

// clang-format off
#include "kernels/simd/dotprod.h"  // first: the others are written over it
// clang-format on

#include "kernels/linear/generic.h"

namespace kvass {

KVASS_INLINE int8x16_t signed_bytes(int32x4_t x) { return vreinterpretq_s8_s32(x); }
KVASS_INLINE int8x16_t signed_bytes(int16x8_t x) { return vreinterpretq_s8_s16(x); }

// A group's weights around zero, as unpacked chunks have them.
template <WeightType kType>
KVASS_INLINE dotprod::V::I centred(dotprod::V::I w) {
  constexpr int kOffset = panel_format(kType).offset;
  if constexpr (kOffset == 0) return w;
  const int8x16_t all = vdupq_n_s8(kOffset);
  const auto centre = [all](int32x4_t x) { return vreinterpretq_s32_s8(vsubq_s8(signed_bytes(x), all)); };
  return {centre(w.a), centre(w.b), centre(w.c), centre(w.d)};
}

// The bytes of a vector of sixteen k's, as they lie in an ActivationBlock16: each group as q0, q2, q1, q3; or back.
KVASS_INLINE int8x16_t as_words_lie(int8x16_t x) {
  static constexpr uint8_t kOrder[16] = {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15};
  return vqtbl1q_s8(x, vld1q_u8(kOrder));
}

// Sixteen activations as signed bytes: q = low, or 256 · high + low. Of 16 bits: in index order, or in memory order
// (as_words_lie).
struct ActivationBytes {
  int8x16_t low, high;
};
template <bool kAsTheyLie>
KVASS_INLINE void load_half(const ActivationBlock8& block, int half, ActivationBytes& a) {
  a.low = vld1q_s8(block.q + half * 16);
}
template <bool kAsTheyLie>
KVASS_INLINE void load_half(const ActivationBlock16& block, int half, ActivationBytes& a) {
  const int16x8_t x = vld1q_s16(block.q + half * 16);
  const int16x8_t y = vld1q_s16(block.q + half * 16 + 8);
  a.low = vuzp1q_s8(signed_bytes(x), signed_bytes(y));
  a.high = vrshrn_high_n_s16(vrshrn_n_s16(x, 8), y, 8);  // rounded: where low is negative, high is one more
  if constexpr (!kAsTheyLie) a = {as_words_lie(a.low), as_words_lie(a.high)};
}

// −offset · Σq of part `part` of a block (linear.h), in all lanes.
template <WeightType kType>
KVASS_INLINE dotprod::V::I offset_term(const ActivationBlock8& block, int part) {
  const int sum = block.negated_pair_sums[part][0] + block.negated_pair_sums[part][1];
  return dotprod::V::set1i(sum * panel_format(kType).offset);
}
template <WeightType kType>
KVASS_INLINE dotprod::V::I offset_term(const ActivationBlock16& block, int part) {
  return dotprod::V::set1i(block.negated_sums[part] * panel_format(kType).offset);
}

// multiply_part of block_dots.h. Unpacked weights for activations of 16 bits are in the order in which these lie.
template <WeightType kType, int kPart, int kRows, class Source, class Block>
KVASS_INLINE void dot_part(Source source, int64_t b, const Block* x, int64_t x_stride, dotprod::V::I (&dots)[kRows]) {
  using V = dotprod::V;
  constexpr int kParts = kBlock / panel_format(kType).scale_block;
  constexpr bool kStart = panel_format(kType).offset != 0 && !Source::kCentred;
  asm volatile("" : : : "memory");  // stops GCC from hoisting the loads of waiting accumulators and spilling them
  V::I high[kRows];
  unroll<kRows>([&](auto row) __attribute__((always_inline)) {
    constexpr int r = decltype(row)::value;
    dots[r] = kStart ? offset_term<kType>(x[r * x_stride + b], kParts == 1 ? 0 : 1 + kPart) : V::zeroi();
    high[r] = V::zeroi();
  });
  constexpr int kHalves = 2 / kParts;
  // Otherwise one byte packs weights of both halves.
  constexpr bool kByHalves = Source::kCentred || panel_format(kType).low_bits() != 4;
  ActivationBytes bytes[kHalves][kRows];
  unroll<4 * kHalves>([&](auto i) __attribute__((always_inline)) {
    constexpr int kHalf = kByHalves ? decltype(i)::value / 4 : decltype(i)::value % kHalves;
    constexpr int kLane = kByHalves ? decltype(i)::value % 4 : decltype(i)::value / kHalves;
    const V::I w = Source::template bytes<(kPart + kHalf) * 4 + kLane>(source, b);
    unroll<kRows>([&](auto row) __attribute__((always_inline)) {
      constexpr int r = decltype(row)::value;
      ActivationBytes& a = bytes[kHalf][r];
      if constexpr (kLane == 0) load_half<Source::kCentred>(x[r * x_stride + b], kPart + kHalf, a);
      dots[r] = V::dot_lane<kLane>(dots[r], w, a.low);
      if constexpr (!kIs8<Block>) high[r] = V::dot_lane<kLane>(high[r], w, a.high);
    });
  });
  if constexpr (!kIs8<Block>) {
    unroll<kRows>([&](auto row) __attribute__((always_inline)) {
      constexpr int r = decltype(row)::value;
      dots[r] = V::addi(dots[r], V::slli(high[r], 8));
    });
  }
}

}  // namespace kvass
