#include "kernels/rotary/rotary.h"

#include <string>

#include "kernels/functions64.h"

namespace kvass {
namespace {

// An unevaluated sum hi + lo with |lo| <= ulp(hi) / 2: about 106 bits. Relative errors of the operations are below
// 2^-102.
struct Double2 {
  double hi = 0.0;
  double lo = 0.0;
};

Double2 quick_sum(double a, double b) {  // |a| >= |b|
  const double sum = a + b;
  return {sum, b - (sum - a)};
}

Double2 exact_sum(double a, double b) {
  const double sum = a + b;
  const double part = sum - a;
  return {sum, (a - (sum - part)) + (b - part)};
}

Double2 add(Double2 a, Double2 b) {
  const Double2 high = exact_sum(a.hi, b.hi);
  const Double2 low = exact_sum(a.lo, b.lo);
  const Double2 partial = quick_sum(high.hi, high.lo + low.hi);
  return quick_sum(partial.hi, partial.lo + low.lo);
}

Double2 mul(Double2 a, Double2 b) {
  const double product = a.hi * b.hi;
  const double error = __builtin_fma(a.hi, b.hi, -product);
  return quick_sum(product, error + __builtin_fma(a.hi, b.lo, a.lo * b.hi));
}

Double2 div(Double2 a, Double2 b) {  // long division, three digits
  Double2 rest = a;
  double digits[3];
  for (double& digit : digits) {
    digit = rest.hi / b.hi;
    rest = add(rest, mul({-digit, 0.0}, b));
  }
  const Double2 leading = quick_sum(digits[0], digits[1]);
  return add(leading, {digits[2], 0.0});
}

constexpr Double2 kLn2{0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};
constexpr Double2 kInverseTwoPi{0x1.45f306dc9c883p-3, -0x1.6b01ec5417056p-57};

// e^x for |x| < 700: x = n·ln2 + r, then Taylor's series of e^r in Horner's form, 1 + r/1·(1 + r/2·(1 + …)).
Double2 exp(Double2 x) {
  const double n = __builtin_rint(x.hi * 0x1.71547652b82fep+0);
  const Double2 r = add(x, mul({-n, 0.0}, kLn2));
  Double2 sum{1.0, 0.0};
  for (int k = 28; k >= 1; --k) sum = add({1.0, 0.0}, mul(div(r, {static_cast<double>(k), 0.0}), sum));
  const double power = std::bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52);
  return {sum.hi * power, sum.lo * power};
}

// ln x by one Newton step from the double logarithm: the error is squared.
Double2 log(double x) {
  const Double2 guess{log64(x), 0.0};
  const Double2 ratio = mul({x, 0.0}, exp({-guess.hi, 0.0}));
  return add(guess, add(ratio, {-1.0, 0.0}));
}

// The fraction of x >= 0 in units of 2^-64, rounded to nearest; whole turns drop out. x < 2^11.
uint64_t to_turns(Double2 x) {
  const double whole = __builtin_floor(x.hi);
  const double high = (x.hi - whole) * 0x1p64;  // exact
  const double units = __builtin_floor(high);
  const double rest = (high - units) + x.lo * 0x1p64;
  return static_cast<uint64_t>(units) + static_cast<uint64_t>(static_cast<int64_t>(__builtin_rint(rest)));
}

}  // namespace

Result<Rotary> make_rotary(int64_t head_dim, double base, double factor) {
  if (head_dim < 2 || head_dim % 2 != 0 || head_dim > (1 << 20)) {
    return bad_input("rotary head size", "an even number of elements in [2, 1048576]", std::to_string(head_dim));
  }
  if (!(base >= 1.0 && base <= 1e30)) {
    return bad_input("rotary base", "a number in [1, 1e30]", std::to_string(base));
  }
  if (!(factor >= 1e-3 && factor <= 1e9)) {
    return bad_input("rotary scaling factor", "a number in [0.001, 1e9]", std::to_string(factor));
  }
  Rotary rotary;
  rotary.head_dim = head_dim;
  const Double2 log_base = log(base);
  const double d = static_cast<double>(head_dim);
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const Double2 exponent = div(mul({static_cast<double>(-2 * i), 0.0}, log_base), {d, 0.0});
    rotary.turns.push_back(to_turns(div(mul(exp(exponent), kInverseTwoPi), {factor, 0.0})));
  }
  return rotary;
}

void cos_sin_turns(uint64_t turns, float* cos, float* sin) {
  // The nearest quarter turn, and the rest in [-1/8, 1/8) of a turn as an angle.
  const uint64_t quarter = (turns + (uint64_t{1} << 61)) >> 62;
  const double x = static_cast<double>(static_cast<int64_t>(turns - (quarter << 62))) * 0x1.921fb54442d18p-62;
  const double z = x * x;
  double s = 0x1.5d9300f685f4fp-33;
  s = __builtin_fma(s, z, -0x1.ae5e663a8e2d2p-26);
  s = __builtin_fma(s, z, 0x1.71de3577b6b8ep-19);
  s = __builtin_fma(s, z, -0x1.a01a019c1199bp-13);
  s = __builtin_fma(s, z, 0x1.111111110f87ap-7);
  s = __builtin_fma(s, z, -0x1.5555555555549p-3);
  s = __builtin_fma(s * z, x, x);
  double c = -0x1.8fae9cc489f2ep-37;
  c = __builtin_fma(c, z, 0x1.1ee9ebe9c4d74p-29);
  c = __builtin_fma(c, z, -0x1.27e4f809f1812p-22);
  c = __builtin_fma(c, z, 0x1.a01a019cb1befp-16);
  c = __builtin_fma(c, z, -0x1.6c16c16c1517ep-10);
  c = __builtin_fma(c, z, 0x1.555555555554cp-5);
  c = __builtin_fma(c, z, -0.5);
  c = __builtin_fma(c, z, 1.0);
  // 0 - v instead of -v: a zero keeps its plus sign.
  const double cosine = quarter % 2 == 0 ? c : s;
  const double sine = quarter % 2 == 0 ? s : c;
  *cos = static_cast<float>(quarter % 4 == 1 || quarter % 4 == 2 ? 0.0 - cosine : cosine);
  *sin = static_cast<float>(quarter % 4 >= 2 ? 0.0 - sine : sine);
}

void fill_rotary_row(const Rotary& rotary, int64_t position, float* cos, float* sin) {
  for (size_t i = 0; i < rotary.turns.size(); ++i) {
    cos_sin_turns(static_cast<uint64_t>(position) * rotary.turns[i], cos + i, sin + i);
  }
}

}  // namespace kvass
