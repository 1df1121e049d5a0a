// One lane: the reference. The functions here have the names of those in the 16-lane sets (avx2.h, avx512vnni.h), so that
// a formula written over `V` (functions.h) is plain scalar code in the reference and vector code elsewhere.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/float16.h"

namespace kvass::scalar {

struct V {
  static constexpr int kLanes = 1;
  using F = float;    // one float32
  using I = int32_t;  // one int32
  using M = bool;

  static F zero() { return 0.0f; }
  static F set1(float x) { return x; }
  static F load(const float* p) { return *p; }
  static void store(float* p, F x) { *p = x; }
  static F load_f16(const uint16_t* p) { return f16_to_float(*p); }
  static F load_bf16(const uint16_t* p) { return bf16_to_float(*p); }

  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F div(F a, F b) { return a / b; }
  static F fma(F a, F b, F c) { return __builtin_fmaf(a, b, c); }   // a * b + c
  static F fnma(F a, F b, F c) { return __builtin_fmaf(-a, b, c); }  // c - a * b
  static F max(F a, F b) { return a > b ? a : b; }  // b when either is NaN
  static F min(F a, F b) { return a < b ? a : b; }  // b when either is NaN
  static F sqrt(F x) { return __builtin_sqrtf(x); }
  static F abs(F x) { return __builtin_fabsf(x); }
  static F rint(F x) { return __builtin_rintf(x); }  // nearest even

  static M lt(F a, F b) { return a < b; }
  static M gt(F a, F b) { return a > b; }
  static F select(M m, F a, F b) { return m ? a : b; }  // m ? a : b
  static M mask(uint32_t bits) { return bits & 1u; }

  static void store_i8(int8_t* p, I x) { *p = static_cast<int8_t>(x); }  // within int8

  static I set1i(int32_t x) { return x; }
  static I addi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
  static I subi(I a, I b) { return static_cast<I>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); }
  static I andi(I a, I b) { return a & b; }
  static I ori(I a, I b) { return a | b; }
  static I srai(I a, int n) { return a >> n; }
  static I slli(I a, int n) { return static_cast<I>(static_cast<uint32_t>(a) << n); }
  static I to_int(F x) { return static_cast<I>(__builtin_rintf(x)); }  // |x| < 2^31
  static F to_float(I x) { return static_cast<F>(x); }
  static I bits(F x) { return std::bit_cast<I>(x); }
  static F from_bits(I x) { return std::bit_cast<F>(x); }
};

}  // namespace kvass::scalar
