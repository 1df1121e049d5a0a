// Sixteen float32 or int32 lanes as four 128-bit registers: the NEON that every AArch64 has. Included by *_neon.cc
// only. Maxima use a comparison and a selection, because NEON's own maximum gives NaN if either operand is NaN. The
// reductions fold by docs/numerics.md, 3: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#define KVASS_INLINE static inline __attribute__((always_inline))

namespace kvass::neon {

struct V {
  static constexpr int kLanes = 16;
  struct F {
    float32x4_t a, b, c, d;
  };
  struct I {
    int32x4_t a, b, c, d;
  };
  struct M {
    uint32x4_t a, b, c, d;  // each lane is all ones or all zeros
  };

  KVASS_INLINE F zero() { return set1(0.0f); }
  KVASS_INLINE F set1(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x)}; }
  KVASS_INLINE F load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
  KVASS_INLINE void store(float* p, F x) {
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
  }
  KVASS_INLINE F load_f16(const uint16_t* p) {
    const float16x8_t lo = vreinterpretq_f16_u16(vld1q_u16(p));
    const float16x8_t hi = vreinterpretq_f16_u16(vld1q_u16(p + 8));
    return {vcvt_f32_f16(vget_low_f16(lo)), vcvt_high_f32_f16(lo), vcvt_f32_f16(vget_low_f16(hi)),
            vcvt_high_f32_f16(hi)};
  }
  KVASS_INLINE F load_bf16(const uint16_t* p) {
    const uint16x8_t lo = vld1q_u16(p);
    const uint16x8_t hi = vld1q_u16(p + 8);
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(lo), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(lo, 16)),
            vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(hi), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(hi, 16))};
  }

  KVASS_INLINE F load_doubled(const float* p) {  // 8 floats, each in two neighbouring lanes
    const float32x4_t x = vld1q_f32(p);
    const float32x4_t y = vld1q_f32(p + 4);
    return {vzip1q_f32(x, x), vzip2q_f32(x, x), vzip1q_f32(y, y), vzip2q_f32(y, y)};
  }
  KVASS_INLINE F swap_pairs(F x) { return {vrev64q_f32(x.a), vrev64q_f32(x.b), vrev64q_f32(x.c), vrev64q_f32(x.d)}; }

  KVASS_INLINE F add(F x, F y) { return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d}; }
  KVASS_INLINE F sub(F x, F y) { return {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d}; }
  KVASS_INLINE F mul(F x, F y) { return {x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d}; }
  KVASS_INLINE F div(F x, F y) { return {x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d}; }
  KVASS_INLINE F fma(F x, F y, F z) {
    return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
  }
  KVASS_INLINE F fnma(F x, F y, F z) {  // z - x * y
    return {vfmsq_f32(z.a, x.a, y.a), vfmsq_f32(z.b, x.b, y.b), vfmsq_f32(z.c, x.c, y.c), vfmsq_f32(z.d, x.d, y.d)};
  }
  KVASS_INLINE F max(F x, F y) { return select(gt(x, y), x, y); }  // y if either is NaN
  KVASS_INLINE F min(F x, F y) { return select(lt(x, y), x, y); }
  KVASS_INLINE F sqrt(F x) { return {vsqrtq_f32(x.a), vsqrtq_f32(x.b), vsqrtq_f32(x.c), vsqrtq_f32(x.d)}; }
  KVASS_INLINE F abs(F x) { return {vabsq_f32(x.a), vabsq_f32(x.b), vabsq_f32(x.c), vabsq_f32(x.d)}; }
  KVASS_INLINE F rint(F x) { return {vrndnq_f32(x.a), vrndnq_f32(x.b), vrndnq_f32(x.c), vrndnq_f32(x.d)}; }

  KVASS_INLINE M lt(F x, F y) {
    return {vcltq_f32(x.a, y.a), vcltq_f32(x.b, y.b), vcltq_f32(x.c, y.c), vcltq_f32(x.d, y.d)};
  }
  KVASS_INLINE M gt(F x, F y) {
    return {vcgtq_f32(x.a, y.a), vcgtq_f32(x.b, y.b), vcgtq_f32(x.c, y.c), vcgtq_f32(x.d, y.d)};
  }
  KVASS_INLINE F select(M m, F x, F y) {
    return {vbslq_f32(m.a, x.a, y.a), vbslq_f32(m.b, x.b, y.b), vbslq_f32(m.c, x.c, y.c), vbslq_f32(m.d, x.d, y.d)};
  }
  KVASS_INLINE M mask(uint32_t bits) {  // lane i is bit i
    const uint32x4_t all = vdupq_n_u32(bits);
    const uint32x4_t pick = {1, 2, 4, 8};
    return {vtstq_u32(all, pick), vtstq_u32(all, pick << 4), vtstq_u32(all, pick << 8), vtstq_u32(all, pick << 12)};
  }

  KVASS_INLINE I zeroi() { return set1i(0); }
  KVASS_INLINE I set1i(int32_t x) { return {vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x)}; }
  KVASS_INLINE I loadi(const void* p) {  // 64 bytes
    const uint8_t* q = static_cast<const uint8_t*>(p);
    return {words(vld1q_u8(q)), words(vld1q_u8(q + 16)), words(vld1q_u8(q + 32)), words(vld1q_u8(q + 48))};
  }
  KVASS_INLINE void storei(void* p, I x) {  // 64 bytes
    uint8_t* q = static_cast<uint8_t*>(p);
    vst1q_u8(q, vreinterpretq_u8_s32(x.a));
    vst1q_u8(q + 16, vreinterpretq_u8_s32(x.b));
    vst1q_u8(q + 32, vreinterpretq_u8_s32(x.c));
    vst1q_u8(q + 48, vreinterpretq_u8_s32(x.d));
  }
  KVASS_INLINE I load_u8(const uint8_t* p) {  // 16 bytes, one for each lane
    const uint8x16_t x = vld1q_u8(p);
    const uint16x8_t lo = vmovl_u8(vget_low_u8(x));
    const uint16x8_t hi = vmovl_high_u8(x);
    return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(lo))), vreinterpretq_s32_u32(vmovl_high_u16(lo)),
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(hi))), vreinterpretq_s32_u32(vmovl_high_u16(hi))};
  }
  KVASS_INLINE I load_i8(const int8_t* p) {
    const int8x16_t x = vld1q_s8(p);
    const int16x8_t lo = vmovl_s8(vget_low_s8(x));
    const int16x8_t hi = vmovl_high_s8(x);
    return {vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo), vmovl_s16(vget_low_s16(hi)), vmovl_high_s16(hi)};
  }
  KVASS_INLINE void store_i8(int8_t* p, I x) {  // 16 bytes; every lane within int8
    vst1q_s8(p, vcombine_s8(vmovn_s16(vcombine_s16(vmovn_s32(x.a), vmovn_s32(x.b))),
                            vmovn_s16(vcombine_s16(vmovn_s32(x.c), vmovn_s32(x.d)))));
  }

  // Exact dot products of signed bytes, four bytes in each lane: w from memory, a (within ±127) the same in all lanes.
  // A pair of products is within 2 · 128 · 127 = 32,512 and is summed in int16; pairs of sums are added in int32.
  using B = I;
  KVASS_INLINE B bytes(const void* p) { return loadi(p); }  // 64 bytes
  KVASS_INLINE I dot_start(int32_t) { return zeroi(); }     // the argument: the sum of all a
  KVASS_INLINE I dot(I acc, B w, I a) {
    const auto add = [](int32x4_t sum, int32x4_t wide_w, int32x4_t wide_a) {
      const int8x16_t x = vreinterpretq_s8_s32(wide_w);
      const int8x16_t y = vreinterpretq_s8_s32(wide_a);
      const int16x8_t lo = vmull_s8(vget_low_s8(x), vget_low_s8(y));
      return vpadalq_s16(sum, vpaddq_s16(lo, vmull_high_s8(x, y)));
    };
    return {add(acc.a, w.a, a.a), add(acc.b, w.b, a.b), add(acc.c, w.c, a.c), add(acc.d, w.d, a.d)};
  }

  KVASS_INLINE I addi(I x, I y) {
    return {vaddq_s32(x.a, y.a), vaddq_s32(x.b, y.b), vaddq_s32(x.c, y.c), vaddq_s32(x.d, y.d)};
  }
  KVASS_INLINE I subi(I x, I y) {
    return {vsubq_s32(x.a, y.a), vsubq_s32(x.b, y.b), vsubq_s32(x.c, y.c), vsubq_s32(x.d, y.d)};
  }
  KVASS_INLINE I andi(I x, I y) { return {x.a & y.a, x.b & y.b, x.c & y.c, x.d & y.d}; }
  KVASS_INLINE I ori(I x, I y) { return {x.a | y.a, x.b | y.b, x.c | y.c, x.d | y.d}; }
  KVASS_INLINE I xori(I x, I y) { return {x.a ^ y.a, x.b ^ y.b, x.c ^ y.c, x.d ^ y.d}; }
  KVASS_INLINE I slli(I x, int n) { return {x.a << n, x.b << n, x.c << n, x.d << n}; }
  KVASS_INLINE I srai(I x, int n) { return {x.a >> n, x.b >> n, x.c >> n, x.d >> n}; }
  KVASS_INLINE I srli(I x, int n) {
    const auto shift = [n](int32x4_t y) { return vreinterpretq_s32_u32(vreinterpretq_u32_s32(y) >> n); };
    return {shift(x.a), shift(x.b), shift(x.c), shift(x.d)};
  }
  KVASS_INLINE I high_nibbles(I x) {  // the high four bits of each byte
    const auto shift = [](int32x4_t y) { return words(vshrq_n_u8(vreinterpretq_u8_s32(y), 4)); };
    return {shift(x.a), shift(x.b), shift(x.c), shift(x.d)};
  }
  KVASS_INLINE I put_bits(I x, I y, I mask) {  // the bits of y in the mask; x has zeros there
    const auto put = [](int32x4_t to, int32x4_t from, int32x4_t m) {
      return vbslq_s32(vreinterpretq_u32_s32(m), from, to);
    };
    return {put(x.a, y.a, mask.a), put(x.b, y.b, mask.b), put(x.c, y.c, mask.c), put(x.d, y.d, mask.d)};
  }
  // Of each byte, 0 to 15, the byte of that index in `values`.
  KVASS_INLINE I look_up(I x, const int8_t* values) {
    const int8x16_t entries = vld1q_s8(values);
    const auto look = [&](int32x4_t y) __attribute__((always_inline)) {
      return vreinterpretq_s32_s8(vqtbl1q_s8(entries, vreinterpretq_u8_s32(y)));
    };
    return {look(x.a), look(x.b), look(x.c), look(x.d)};
  }
  KVASS_INLINE I to_int(F x) {
    return {vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b), vcvtnq_s32_f32(x.c), vcvtnq_s32_f32(x.d)};
  }
  KVASS_INLINE F to_float(I x) {
    return {vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c), vcvtq_f32_s32(x.d)};
  }
  KVASS_INLINE I bits(F x) {
    return {vreinterpretq_s32_f32(x.a), vreinterpretq_s32_f32(x.b), vreinterpretq_s32_f32(x.c),
            vreinterpretq_s32_f32(x.d)};
  }
  KVASS_INLINE F from_bits(I x) {
    return {vreinterpretq_f32_s32(x.a), vreinterpretq_f32_s32(x.b), vreinterpretq_f32_s32(x.c),
            vreinterpretq_f32_s32(x.d)};
  }

  KVASS_INLINE float reduce_add(F x) {
    const float32x4_t four = (x.a + x.c) + (x.b + x.d);
    const float32x2_t two = vget_low_f32(four) + vget_high_f32(four);
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
  KVASS_INLINE float reduce_max(F x) {
    const auto larger = [](float32x4_t y, float32x4_t z) { return vbslq_f32(vcgtq_f32(y, z), y, z); };
    const float32x4_t four = larger(larger(x.a, x.c), larger(x.b, x.d));
    const float32x4_t two = larger(four, vextq_f32(four, four, 2));
    return vgetq_lane_f32(larger(two, vdupq_laneq_f32(two, 1)), 0);
  }

 private:
  KVASS_INLINE int32x4_t words(uint8x16_t x) { return vreinterpretq_s32_u8(x); }
};

}  // namespace kvass::neon
