#include "kernels/rotary/rotary.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

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

Double2 negative(Double2 a) { return {-a.hi, -a.lo}; }

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
constexpr Double2 kLnTwoPi{0x1.d67f1c864beb5p+0, -0x1.65b5a1b7ff5dfp-54};
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

// The fractional part of x in units of 2^-64, rounded to nearest. 0 <= x < 2^11.
uint64_t to_turns(Double2 x) {
  const double whole = __builtin_floor(x.hi);
  const double high = (x.hi - whole) * 0x1p64;  // exact
  const double units = __builtin_floor(high);
  const double rest = (high - units) + x.lo * 0x1p64;
  return static_cast<uint64_t>(units) + static_cast<uint64_t>(static_cast<int64_t>(__builtin_rint(rest)));
}

// The share of its own frequency that pair i keeps under YaRN: 1 for pairs that turn often enough within the trained
// context.
class YarnRamp {
 public:
  YarnRamp() = default;
  explicit YarnRamp(const RotaryParams& params) : extrapolation_(params.yarn.extrapolation) {
    const double d = static_cast<double>(params.head_dim);
    const auto pair_of = [&](double rotations) {
      const Double2 turned = add(add(log(params.yarn.context), negative(log(rotations))), negative(kLnTwoPi));
      return div(mul({0.5 * d, 0.0}, turned), log(params.base)).hi;
    };
    low_ = std::clamp(__builtin_floor(pair_of(params.yarn.beta_fast)), 0.0, d);
    high_ = std::clamp(__builtin_ceil(pair_of(params.yarn.beta_slow)), 0.0, d - 1.0);
  }
  Double2 operator()(int64_t i) const {
    const double below = high_ - static_cast<double>(i);
    // A ramp of width 0 is a step after `low` (the reference implementations divide by 0.001 there).
    if (!(high_ > low_)) return {static_cast<double>(i) > low_ ? 0.0 : extrapolation_, 0.0};
    return mul({extrapolation_, 0.0}, div({std::clamp(below, 0.0, high_ - low_), 0.0}, {high_ - low_, 0.0}));
  }

 private:
  double extrapolation_ = 0.0;
  double low_ = 0.0;
  double high_ = 0.0;
};

Status check(const RotaryParams& params) {
  const auto within = [](std::string_view what, double value, double least, double most) -> Status {
    if (value >= least && value <= most) return {};
    return bad_input("rotary " + std::string(what), fmt::format("a number in [{}, {}]", least, most),
                     fmt::format("{}", value));
  };
  if (params.head_dim < 2 || params.head_dim % 2 != 0 || params.head_dim > (1 << 20)) {
    return bad_input("rotary head size", "an even number of elements in [2, 1048576]", std::to_string(params.head_dim));
  }
  KVASS_RETURN_IF_ERROR(within("base", params.base, 1.0, 1e30));
  KVASS_RETURN_IF_ERROR(within("scaling factor", params.factor, 1e-3, 1e9));
  KVASS_RETURN_IF_ERROR(within("attention factor", params.attention_factor, 1e-3, 1e3));
  const size_t half = static_cast<size_t>(params.head_dim / 2);
  if (!params.divisors.empty() && params.divisors.size() != half) {
    return bad_input("rotary frequency factors", std::to_string(half) + " (half the head size)",
                     std::to_string(params.divisors.size()));
  }
  for (const float divisor : params.divisors) {
    KVASS_RETURN_IF_ERROR(within("frequency factor", static_cast<double>(divisor), 0.1, 1e9));
  }
  if (params.yarn.context == 0.0) return {};
  KVASS_RETURN_IF_ERROR(within("YaRN context", params.yarn.context, 1.0, 1e12));
  KVASS_RETURN_IF_ERROR(within("YaRN beta_fast", params.yarn.beta_fast, 1e-3, 1e6));
  KVASS_RETURN_IF_ERROR(within("YaRN beta_slow", params.yarn.beta_slow, 1e-3, params.yarn.beta_fast));
  KVASS_RETURN_IF_ERROR(within("YaRN extrapolation", params.yarn.extrapolation, 0.0, 1.0));
  return within("base under YaRN", params.base, 1.001, 1e30);
}

// Errors below 2^-52; exact at multiples of a quarter turn.
struct CosSin {
  double cos;
  double sin;
};

CosSin cos_sin(uint64_t turns) {
  // The nearest quarter turn, and the remaining angle, in [-1/8, 1/8) of a turn.
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
  // 0 - v instead of -v, so that a zero keeps its plus sign.
  const double cosine = quarter % 2 == 0 ? c : s;
  const double sine = quarter % 2 == 0 ? s : c;
  return {quarter % 4 == 1 || quarter % 4 == 2 ? 0.0 - cosine : cosine, quarter % 4 >= 2 ? 0.0 - sine : sine};
}

}  // namespace

Result<Rotary> make_rotary(const RotaryParams& params) {
  KVASS_RETURN_IF_ERROR(check(params));
  Rotary rotary;
  rotary.head_dim = params.head_dim;
  rotary.amplitude = params.attention_factor;
  const bool yarn = params.yarn.context != 0.0;
  if (yarn && params.factor > 1.0) {
    rotary.amplitude *= add({1.0, 0.0}, div(log(params.factor), {10.0, 0.0})).hi;
  }
  const YarnRamp ramp = yarn ? YarnRamp(params) : YarnRamp();
  const Double2 log_base = log(params.base);
  const double d = static_cast<double>(params.head_dim);
  for (int64_t i = 0; i < params.head_dim / 2; ++i) {
    const Double2 exponent = div(mul({static_cast<double>(-2 * i), 0.0}, log_base), {d, 0.0});
    const Double2 own = mul(exp(exponent), kInverseTwoPi);
    Double2 turns = div(own, {params.factor, 0.0});
    if (yarn) {
      const Double2 kept = ramp(i);
      turns = add(mul(turns, add({1.0, 0.0}, negative(kept))), mul(own, kept));
    }
    if (!params.divisors.empty()) {
      turns = div(turns, {static_cast<double>(params.divisors[static_cast<size_t>(i)]), 0.0});
    }
    rotary.turns.push_back(to_turns(turns));
  }
  return rotary;
}

void cos_sin_turns(uint64_t turns, float* cos, float* sin) {
  const CosSin angle = cos_sin(turns);
  *cos = static_cast<float>(angle.cos);
  *sin = static_cast<float>(angle.sin);
}

void fill_rotary_row(const Rotary& rotary, int64_t position, float* cos, float* sin) {
  for (size_t i = 0; i < rotary.turns.size(); ++i) {
    const CosSin angle = cos_sin(static_cast<uint64_t>(position) * rotary.turns[i]);
    cos[i] = static_cast<float>(rotary.amplitude * angle.cos);
    sin[i] = static_cast<float>(rotary.amplitude * angle.sin);
  }
}

}  // namespace kvass
