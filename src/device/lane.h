// D, one lane of device code. It has the functions of the lane sets in kernels/simd, so that a formula written over a
// lane set (kernels/functions.h) also works as device code, with the same bits.
#pragma once

#include "device/code.h"

namespace kvass::KVASS_DEVICE {

KVASS_DEVICE_FN float bf16_to_float(uint16_t bits) { return float_from_bits(static_cast<uint32_t>(bits) << 16); }

// To nearest even; NaN stays NaN.
KVASS_DEVICE_FN uint16_t float_to_bf16(float x) {
  uint32_t bits = bits_of_float(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<uint16_t>(bits >> 16);
}

// The rounding of caches: finite values and infinities saturate at ±65,504.
KVASS_DEVICE_FN uint16_t float_to_f16_saturating(float x) {
  const uint16_t half = float_to_f16(x);
  return (half & 0x7fffu) == 0x7c00u ? static_cast<uint16_t>(half - 1) : half;
}

struct D {
  static constexpr int kLanes = 1;
  using F = float;
  using I = int32_t;
  using M = bool;

  KVASS_DEVICE_STATIC F zero() { return 0.0f; }
  KVASS_DEVICE_STATIC F set1(float x) { return x; }
  KVASS_DEVICE_STATIC F add(F a, F b) { return add_rn(a, b); }
  KVASS_DEVICE_STATIC F sub(F a, F b) { return sub_rn(a, b); }
  KVASS_DEVICE_STATIC F mul(F a, F b) { return mul_rn(a, b); }
  KVASS_DEVICE_STATIC F div(F a, F b) { return div_rn(a, b); }
  KVASS_DEVICE_STATIC F fma(F a, F b, F c) { return fma_rn(a, b, c); }    // a · b + c
  KVASS_DEVICE_STATIC F fnma(F a, F b, F c) { return fma_rn(-a, b, c); }  // c − a · b
  KVASS_DEVICE_STATIC F max(F a, F b) { return a > b ? a : b; }           // b when either is NaN
  KVASS_DEVICE_STATIC F min(F a, F b) { return a < b ? a : b; }           // b when either is NaN
  KVASS_DEVICE_STATIC F sqrt(F x) { return sqrt_rn(x); }
  KVASS_DEVICE_STATIC F abs(F x) { return float_from_bits(bits_of_float(x) & 0x7fffffffu); }
  KVASS_DEVICE_STATIC F rint(F x) { return rint_rn(x); }
  KVASS_DEVICE_STATIC M lt(F a, F b) { return a < b; }
  KVASS_DEVICE_STATIC M gt(F a, F b) { return a > b; }
  KVASS_DEVICE_STATIC F select(M m, F a, F b) { return m ? a : b; }
  KVASS_DEVICE_STATIC I set1i(int32_t x) { return x; }
  KVASS_DEVICE_STATIC I addi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
  KVASS_DEVICE_STATIC I subi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); }
  KVASS_DEVICE_STATIC I andi(I a, I b) { return a & b; }
  KVASS_DEVICE_STATIC I ori(I a, I b) { return a | b; }
  KVASS_DEVICE_STATIC I srai(I a, int n) { return a >> n; }
  KVASS_DEVICE_STATIC I slli(I a, int n) { return static_cast<I>(static_cast<uint32_t>(a) << n); }
  KVASS_DEVICE_STATIC I to_int(F x) { return static_cast<I>(rint_rn(x)); }  // |x| < 2^31
  KVASS_DEVICE_STATIC F to_float(I x) { return static_cast<F>(x); }
  KVASS_DEVICE_STATIC I bits(F x) { return static_cast<I>(bits_of_float(x)); }
  KVASS_DEVICE_STATIC F from_bits(I x) { return float_from_bits(static_cast<uint32_t>(x)); }
};

}  // namespace kvass::KVASS_DEVICE
