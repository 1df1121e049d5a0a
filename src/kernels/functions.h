// exp, tanh and erf as fma polynomials over a lane set V (simd/*.h): docs/numerics.md, 4. The scalar reference and
// every instruction set compile the same source, so the bits are the same. The polynomials are minimax fits for
// relative error (Remez). Largest errors against float64 over all float32 inputs: exp 0.9 ulp, tanh 2.5 ulp, erf 1.2
// ulp (functions_test.cc tries every 251st). Functions of doubles are in functions64.h.
#pragma once

#include <cstdint>

#include "kernels/simd/lane_fn.h"

namespace kvass {

// The common part of exp: x = n·ln2 + r with |r| <= ln2/2. Returns e^r; the low bits of `shifted` hold the integer n.
// Adding 1.5·2^23 rounds to an integer (nearest even) and leaves it in the low bits: no conversion is needed.
template <class V>
KVASS_LANE_FN typename V::F exp_reduced(typename V::F x, typename V::F magic, typename V::F& shifted) {
  using F = typename V::F;
  shifted = V::fma(x, V::set1(0x1.715476p+0f), magic);
  const F n = V::sub(shifted, magic);
  F r = V::fnma(n, V::set1(0x1.62e4p-1f), x);  // exact: n·hi fits 24 bits
  r = V::fnma(n, V::set1(0x1.7f7d1cp-20f), r);
  F p = V::set1(0x1.6a23e2p-10f);
  p = V::fma(p, r, V::set1(0x1.123a20p-7f));
  p = V::fma(p, r, V::set1(0x1.5558f2p-5f));
  p = V::fma(p, r, V::set1(0x1.555492p-3f));
  p = V::fma(p, r, V::set1(0x1.fffffcp-2f));
  p = V::fma(p, r, V::set1(1.0f));
  return V::fma(p, r, V::set1(1.0f));
}

// e^x. exp(0) = 1; below -87 exactly +0; above 88.72283 (the largest finite result) infinity; NaN stays NaN.
template <class V>
KVASS_LANE_FN typename V::F exp(typename V::F x) {
  using F = typename V::F;
  F shifted;
  const F p = exp_reduced<V>(x, V::set1(0x1.8p23f), shifted);
  // Multiplies by 2^n with an integer addition to the exponent: the factor 2^128 would overflow. From -87 on the result
  // is a normal number, so this is exact.
  F result = V::from_bits(V::addi(V::bits(p), V::slli(V::bits(shifted), 23)));
  result = V::select(V::lt(x, V::set1(0x1.62e43p+6f)), result, V::add(x, V::set1(__builtin_inff())));
  return V::select(V::lt(x, V::set1(-87.0f)), V::zero(), result);
}

// exp(x) for x <= 0 or NaN: the same bits in fewer steps. For softmax, where x = score - maximum.
template <class V>
KVASS_LANE_FN typename V::F exp_nonpositive(typename V::F x) {
  using F = typename V::F;
  F shifted;
  const F p = exp_reduced<V>(x, V::set1(0x1.8p23f + 127.0f), shifted);
  const F result = V::mul(p, V::from_bits(V::slli(V::bits(shifted), 23)));  // the low bits are n + 127: 2^n
  return V::select(V::lt(x, V::set1(-87.0f)), V::zero(), result);
}

// tanh(x) = e / (e + 2) with e = exp(2|x|) - 1, times the sign of x. The relative error is small for tiny x too
// (tanh(±0) = ±0, denormals are returned unchanged). ±1 from |x| = 9.02 on, never more; NaN stays NaN.
// With 2|x| = n·ln2 + r, e = 2^n·q + (2^n - 1), q = e^r - 1 as its own polynomial so that nothing cancels at n = 0.
template <class V>
KVASS_LANE_FN typename V::F tanh(typename V::F x) {
  using F = typename V::F;
  const F magic = V::set1(0x1.8p23f + 127.0f);
  const F limited = V::min(V::set1(10.0f), V::abs(x));  // NaN stays NaN
  const F y = V::add(limited, limited);
  const F shifted = V::fma(y, V::set1(0x1.715476p+0f), magic);
  const F n = V::sub(shifted, magic);
  F r = V::fnma(n, V::set1(0x1.62e4p-1f), y);
  r = V::fnma(n, V::set1(0x1.7f7d1cp-20f), r);
  F q = V::set1(0x1.6d723ep-10f);
  q = V::fma(V::set1(0x1.a032c6p-13f), r, q);
  q = V::fma(q, r, V::set1(0x1.11118ap-7f));
  q = V::fma(q, r, V::set1(0x1.5554b0p-5f));
  q = V::fma(q, r, V::set1(0x1.555554p-3f));
  q = V::fma(q, r, V::set1(0.5f));
  q = V::fma(V::mul(q, r), r, r);
  const F power = V::from_bits(V::slli(V::bits(shifted), 23));
  const F e = V::fma(power, q, V::sub(power, V::set1(1.0f)));
  const F result = V::div(e, V::add(e, V::set1(2.0f)));
  return V::from_bits(V::ori(V::bits(result), V::andi(V::bits(x), V::set1i(INT32_MIN))));
}

// erf(x) for |x| < 1: x + x·P(x²); for larger |x|: 1 - exp(-|x|·R(|x|)), times the sign of x. The relative error is
// small for tiny x too; ±1 from |x| = 3.92 on; NaN stays NaN.
template <class V>
KVASS_LANE_FN typename V::F erf(typename V::F x) {
  using F = typename V::F;
  const F a = V::min(V::set1(4.0f), V::abs(x));  // NaN stays NaN
  const F z = V::mul(a, a);
  F p = V::set1(0x1.496a30p-14f);
  p = V::fma(p, z, V::set1(-0x1.a3f700p-11f));
  p = V::fma(p, z, V::set1(0x1.5405b2p-8f));
  p = V::fma(p, z, V::set1(-0x1.b7f90ep-6f));
  p = V::fma(p, z, V::set1(0x1.ce2cf8p-4f));
  p = V::fma(p, z, V::set1(-0x1.81273ep-2f));
  p = V::fma(p, z, V::set1(0x1.06eba8p-3f));
  const F small = V::fma(p, a, a);
  F q = V::set1(-0x1.d47f6ep-17f);  // -R
  q = V::fma(q, a, V::set1(0x1.6f9ef6p-12f));
  q = V::fma(q, a, V::set1(-0x1.ec7fcap-9f));
  q = V::fma(q, a, V::set1(0x1.896178p-6f));
  q = V::fma(q, a, V::set1(-0x1.b459b0p-4f));
  q = V::fma(q, a, V::set1(-0x1.451abap-1f));
  q = V::fma(q, a, V::set1(-0x1.20f21cp+0f));
  const F large = V::sub(V::set1(1.0f), exp_nonpositive<V>(V::mul(q, a)));
  const F result = V::select(V::lt(a, V::set1(1.0f)), small, large);
  return V::from_bits(V::ori(V::bits(result), V::andi(V::bits(x), V::set1i(INT32_MIN))));
}

// Soft-capping: cap · tanh(x / cap), one rounding each; cap > 0.
template <class V>
KVASS_LANE_FN typename V::F softcap(typename V::F x, typename V::F cap) {
  return V::mul(cap, tanh<V>(V::div(x, cap)));
}

// x / (1 + exp(-2u)), u = sqrt(2/π) · (x + 0.044715 · x³); gate/gate.h says why in this form.
template <class V>
KVASS_LANE_FN typename V::F gelu_tanh(typename V::F x) {
  using F = typename V::F;
  const F poly = V::fma(V::set1(-0x1.2444f2p-4f), V::mul(x, x), V::set1(-0x1.988454p+0f));
  return V::div(x, V::add(V::set1(1.0f), exp<V>(V::mul(x, poly))));
}

// (x / 2) · (1 + erf(x / sqrt(2))), one rounding each. The absolute error is that of erf times |x| / 2. For x far below
// 0, where 1 + erf cancels, the relative error is larger, as in every form that uses erf.
template <class V>
KVASS_LANE_FN typename V::F gelu_erf(typename V::F x) {
  using F = typename V::F;
  const F half = V::mul(V::set1(0.5f), x);
  return V::mul(half, V::add(V::set1(1.0f), erf<V>(V::mul(V::set1(0x1.6a09e6p-1f), x))));
}

// x / (1 + exp(-x)), the logistic gate.
template <class V>
KVASS_LANE_FN typename V::F silu(typename V::F x) {
  return V::div(x, V::add(V::set1(1.0f), exp<V>(V::sub(V::set1(0.0f), x))));
}

}  // namespace kvass
