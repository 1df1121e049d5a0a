// exp and log of doubles as fma polynomials, for losses, sampling weights and tables: docs/numerics.md, 4. exp64 also
// takes four doubles at once, with the same bits. Every operation with a rounding is written out. Errors against 80-bit
// arithmetic: exp64 below 1.0 ulp, log64 below 0.9 ulp (functions_test.cc).
#pragma once

#include <bit>
#include <cstdint>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

#define KVASS_INLINE64 static inline __attribute__((always_inline))

namespace kvass {

// Four lanes as the vector types of GCC and Clang: operators work lane by lane, comparisons give masks for `?:`.
using Double4 = double __attribute__((vector_size(32)));
using Bits4 = uint64_t __attribute__((vector_size(32)));

KVASS_INLINE64 double fma64(double a, double b, double c) { return __builtin_fma(a, b, c); }
KVASS_INLINE64 Double4 fma64(Double4 a, Double4 b, Double4 c) {
#if defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_pd(a, b, c);
#else
  Double4 result;
  for (int i = 0; i < 4; ++i) result[i] = __builtin_fma(a[i], b[i], c[i]);
  return result;
#endif
}

template <class T>
struct BitsOf {
  using Type = uint64_t;
};
template <>
struct BitsOf<Double4> {
  using Type = Bits4;
};

// e^x; T is double or Double4. exp64(0) = 1; below -708 exactly +0; above 709.78 infinity; NaN stays NaN.
template <class T>
KVASS_INLINE64 T exp64(T x) {
  using Bits = typename BitsOf<T>::Type;
  const auto step = [](T p, T r, double c) __attribute__((always_inline)) { return fma64(p, r, T{} + c); };
  const double magic = 0x1.8p52;  // rounds to an integer n and leaves it in the low bits
  const T shifted = fma64(x, T{} + 0x1.71547652b82fep+0, T{} + magic);
  const T n = magic - shifted;               // negated
  T r = fma64(n, T{} + 0x1.62e42feep-1, x);  // exact: n·hi fits 53 bits
  r = fma64(n, T{} + 0x1.a39ef35793c76p-33, r);
  T p = step(T{} + 0x1.1ecbc7c98c718p-29, r, 0x1.af44a0498d711p-26);
  p = step(p, r, 0x1.27e5349aea86bp-22);
  p = step(p, r, 0x1.71de066c6f071p-19);
  p = step(p, r, 0x1.a01a0185db79dp-16);
  p = step(p, r, 0x1.a01a01aaacc17p-13);
  p = step(p, r, 0x1.6c16c16c1b260p-10);
  p = step(p, r, 0x1.11111111102d4p-7);
  p = step(p, r, 0x1.555555555554dp-5);
  p = step(p, r, 0x1.5555555555557p-3);
  p = step(p, r, 0.5);
  p = fma64(p * r, r, r);
  p = p + 1.0;
  // Multiplies by 2^n with an integer addition to the exponent: exact, because results from -708 on are normal numbers.
  const T scaled = std::bit_cast<T>(std::bit_cast<Bits>(p) + (std::bit_cast<Bits>(shifted) << 52));
  const T beyond = x + __builtin_inf();  // infinity, or NaN for NaN
  const T bounded = x < 0x1.62e42fefa39f0p+9 ? scaled : beyond;
  return x < -708.0 ? T{} : bounded;
}

// The natural logarithm. log64(1) = 0; 0 gives -infinity; negative numbers and NaN give NaN. Wrong for subnormal
// numbers.
KVASS_INLINE64 double log64(double x) {
  // x = 2^n · m with m in [sqrt(1/2), sqrt(2)); f = m - 1 is exact; s = f / (2 + f), ln m = f - s · (f - z·R(z)), z =
  // s².
  const uint64_t offset = std::bit_cast<uint64_t>(x) - 0x3fe6a09e667f3bcdu;
  const int64_t exponent = static_cast<int64_t>(offset) >> 52;
  const double n = static_cast<double>(static_cast<int32_t>(exponent));
  const double f = std::bit_cast<double>(std::bit_cast<uint64_t>(x) - (static_cast<uint64_t>(exponent) << 52)) - 1.0;
  const double s = f / (2.0 + f);
  const double z = s * s;
  double p = 0x1.0f72fbda025f2p-3;
  p = __builtin_fma(p, z, 0x1.0f5b0afcc04cep-3);
  p = __builtin_fma(p, z, 0x1.3b20bf4099808p-3);
  p = __builtin_fma(p, z, 0x1.745cddc2dd017p-3);
  p = __builtin_fma(p, z, 0x1.c71c725a6b111p-3);
  p = __builtin_fma(p, z, 0x1.249249242a0c4p-2);
  p = __builtin_fma(p, z, 0x1.9999999999e0ep-2);
  p = __builtin_fma(p, z, 0x1.5555555555555p-1);
  const double correction = __builtin_fma(-n, 0x1.a39ef35793c76p-33, s * __builtin_fma(-p, z, f));
  const double finite = __builtin_fma(n, 0x1.62e42feep-1, f - correction);
  if (x > 0.0 && x < __builtin_inf()) return finite;
  return x == 0.0 ? -__builtin_inf() : x > 0.0 ? x : __builtin_nan("");
}

}  // namespace kvass
