// clang-format off
#include "kernels/simd/neon.h"  // first: the others are written over it
// clang-format on

#include "kernels/linear/generic.h"
#include "kernels/linear/generic_f32.h"
#include "kernels/linear/screen_panels.h"

namespace kvass::neon {
namespace {

// Integer dots from widening multiplications. Eight bits: weights are centred, so that both factors are signed bytes.
struct Dot {
  using I = V::I;

  template <WeightType, class Block>
  static consteval int tile_rows() {
    return 4;  // sixteen accumulators
  }

  // GCC would reassociate the integer sums, computing all products first and spilling them.
  KVASS_INLINE I in_order(I sum) {
    asm("" : "+w"(sum.a), "+w"(sum.b), "+w"(sum.c), "+w"(sum.d));
    return sum;
  }

  KVASS_INLINE int16x8_t words(int32x4_t x) { return vreinterpretq_s16_s32(x); }
  KVASS_INLINE int8x16_t bytes(int32x4_t x) { return vreinterpretq_s8_s32(x); }
  KVASS_INLINE I from(int16x8_t a, int16x8_t b, int16x8_t c, int16x8_t d) {
    return {vreinterpretq_s32_s16(a), vreinterpretq_s32_s16(b), vreinterpretq_s32_s16(c), vreinterpretq_s32_s16(d)};
  }

  template <bool kSigned>
  KVASS_INLINE I even16(I w) {
    if constexpr (!kSigned) return V::andi(w, V::set1i(0x00ff00ff));
    const auto even = [](int32x4_t x) { return words(x) << 8 >> 8; };
    return from(even(w.a), even(w.b), even(w.c), even(w.d));
  }
  template <bool kSigned>
  KVASS_INLINE I odd16(I w) {
    const auto odd = [](int32x4_t x) {
      return kSigned ? words(x) >> 8 : vreinterpretq_s16_u16(vreinterpretq_u16_s32(x) >> 8);
    };
    return from(odd(w.a), odd(w.b), odd(w.c), odd(w.d));
  }
  KVASS_INLINE I centre16(I w, int offset) {
    const int16x8_t all = vdupq_n_s16(static_cast<int16_t>(offset));
    return from(words(w.a) - all, words(w.b) - all, words(w.c) - all, words(w.d) - all);
  }
  KVASS_INLINE I madd16(I acc, I w, I a) {
    const auto add = [](int32x4_t sum, int32x4_t x, int32x4_t y) {
      const int32x4_t lo = vmull_s16(vget_low_s16(words(x)), vget_low_s16(words(y)));
      return vaddq_s32(sum, vpaddq_s32(lo, vmull_high_s16(words(x), words(y))));
    };
    return in_order({add(acc.a, w.a, a.a), add(acc.b, w.b, a.b), add(acc.c, w.c, a.c), add(acc.d, w.d, a.d)});
  }

  template <WeightType kType>
  KVASS_INLINE I encode8(I w) {
    constexpr int kOffset = panel_format(kType).offset;
    if constexpr (kOffset == 0) return w;
    const int8x16_t all = vdupq_n_s8(kOffset);
    const auto centred = [all](int32x4_t x) { return vreinterpretq_s32_s8(vsubq_s8(bytes(x), all)); };
    return {centred(w.a), centred(w.b), centred(w.c), centred(w.d)};
  }
  template <WeightType>
  KVASS_INLINE I start8(const ActivationBlock8&, int) {
    return V::zeroi();
  }
  template <WeightType>
  KVASS_INLINE I add8(I acc, I w, I a) {
    return V::dot(acc, w, a);
  }
  template <WeightType>
  KVASS_INLINE I finish8(I acc, const ActivationBlock8&, int) {
    return acc;
  }
};

// The greatest |x| of 32 floats as its bits, which order as integers.
KVASS_INLINE uint32_t greatest_magnitude(V::F x, V::F y) {
  const auto bits = [](float32x4_t f) { return vreinterpretq_u32_f32(vabsq_f32(f)); };
  const uint32x4_t first = vmaxq_u32(vmaxq_u32(bits(x.a), bits(x.b)), vmaxq_u32(bits(x.c), bits(x.d)));
  const uint32x4_t second = vmaxq_u32(vmaxq_u32(bits(y.a), bits(y.b)), vmaxq_u32(bits(y.c), bits(y.d)));
  return vmaxvq_u32(vmaxq_u32(first, second));
}

// Sixteen integers, half `half` of a block, in index order.
KVASS_INLINE void fill_half(V::I q, int half, ActivationBlock8& block) {
  V::store_i8(block.q + half * 16, q);
  const int16x8_t pairs = vpaddlq_s8(vld1q_s8(block.q + half * 16));  // q0 + q1, q2 + q3 of four groups
  const int16x4_t two = vget_low_s16(pairs) + vget_high_s16(pairs);
  block.negated_pair_sums[1 + half][0] = static_cast<int16_t>(-(vget_lane_s16(two, 0) + vget_lane_s16(two, 2)));
  block.negated_pair_sums[1 + half][1] = static_cast<int16_t>(-(vget_lane_s16(two, 1) + vget_lane_s16(two, 3)));
}
KVASS_INLINE void finish_block(ActivationBlock8& block) {
  for (int pair = 0; pair < 2; ++pair) {
    block.negated_pair_sums[0][pair] =
        static_cast<int16_t>(block.negated_pair_sums[1][pair] + block.negated_pair_sums[2][pair]);
  }
  block.sum = static_cast<float>(-(block.negated_pair_sums[0][0] + block.negated_pair_sums[0][1]));
}

KVASS_INLINE void fill_half(V::I q, int half, ActivationBlock16& block) {
  int16_t* out = block.q + half * 16;
  const auto store = [out](int group, int32x4_t x) {
    const int16x4_t words = vmovn_s32(x);
    const int32x2_t even = vreinterpret_s32_s16(vuzp1_s16(words, words));  // q0 q2 q0 q2
    const int32x2_t odd = vreinterpret_s32_s16(vuzp2_s16(words, words));
    vst1_s16(out + group * 4, vreinterpret_s16_s32(vzip1_s32(even, odd)));
  };
  store(0, q.a);
  store(1, q.b);
  store(2, q.c);
  store(3, q.d);
  block.negated_sums[1 + half] = -vaddvq_s32(vaddq_s32(vaddq_s32(q.a, q.b), vaddq_s32(q.c, q.d)));
}
KVASS_INLINE void finish_block(ActivationBlock16& block) {
  block.negated_sums[0] = block.negated_sums[1] + block.negated_sums[2];
  block.sum = static_cast<float>(-block.negated_sums[0]);
}

// Activations to 8 or 16 bits (docs/numerics.md, 5).
template <class Block>
void quantise_rows(const QuantiseParams& p) {
  constexpr float kQmax = sizeof(Block::q) == kBlock ? kQmax8 : kQmax16;
  constexpr uint32_t kInfinity = 0x7f800000;
  Block* out = static_cast<Block*>(p.activations);
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t k = 0; k < p.k; k += kBlock, ++out) {
      const float* source = p.x + row * p.x_stride + k;
      float padded[kBlock];
      if (p.k - k < kBlock) {
        for (int i = 0; i < kBlock; ++i) padded[i] = k + i < p.k ? source[i] : 0.0f;
        source = padded;
      }
      const V::F x = V::load(source);
      const V::F y = V::load(source + 16);
      const uint32_t bits = greatest_magnitude(x, y);
      const float amax = __builtin_bit_cast(float, bits);
      const bool some = bits < kInfinity && amax >= kAmaxFloor;
      out->scale = some ? amax / kQmax : bits < kInfinity ? 0.0f : __builtin_nanf("");
      const V::F inverse = V::set1(some ? kQmax / amax : 0.0f);
      fill_half(some ? V::to_int(V::mul(x, inverse)) : V::zeroi(), 0, *out);
      fill_half(some ? V::to_int(V::mul(y, inverse)) : V::zeroi(), 1, *out);
      finish_block(*out);
    }
  }
}

}  // namespace

const QuantiseFunction quantise_a8 = quantise_rows<ActivationBlock8>;
const QuantiseFunction quantise_a16 = quantise_rows<ActivationBlock16>;
const LinearFunction linear_f32 = linear_floats<V, 6>;
const LinearFunction linear_a8 = linear<V, Dot, ActivationBlock8>;
const LinearFunction linear_a16 = linear<V, Dot, ActivationBlock16>;
const ScreenFunction screen_a8 = screen_panels<V, ScreenDots<V, Dot>, ActivationBlock8>;
const ScreenFunction screen_a16 = screen_panels<V, ScreenDots<V, Dot>, ActivationBlock16>;

}  // namespace kvass::neon
