#include "ops/loss/loss.h"

#include "kernels/argmax/argmax.h"
#include "kernels/functions64.h"

namespace kvass {
namespace {

// Σ exp(x[i] - maximum) in the order of the rule: four vectors are the 16 lanes.
double sum_exp(const float* x, int64_t n, double maximum) {
  Double4 sums[4] = {};
  const auto add_16 = [&](const float* p) {
    for (int v = 0; v < 4; ++v) {
      const Double4 values = {p[4 * v], p[4 * v + 1], p[4 * v + 2], p[4 * v + 3]};
      sums[v] += exp64(values - maximum);
    }
  };
  const int64_t whole = n & ~int64_t{15};
  for (int64_t i = 0; i < whole; i += 16) add_16(x + i);
  if (whole < n) {  // absent elements add exp(-inf) = +0, which leaves a lane as it is
    float tail[16];
    for (int64_t i = 0; i < 16; ++i) tail[i] = whole + i < n ? x[whole + i] : -__builtin_inff();
    add_16(tail);
  }
  const Double4 eight[2] = {sums[0] + sums[2], sums[1] + sums[3]};
  const Double4 four = eight[0] + eight[1];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// The row's maximum, and ln Σ exp(x - maximum); NaN for a row of NaN.
struct LogSum {
  double maximum;
  double log_sum;
};

LogSum log_sum(const float* x, int64_t n, ArgmaxKernel argmax) {
  const Argmax best = argmax(x, n);
  if (best.index < 0) return {__builtin_nan(""), __builtin_nan("")};
  const double maximum = best.value;
  if (maximum == -__builtin_inf()) {  // nothing but -inf, or NaN among it
    for (int64_t i = 0; i < n; ++i) {
      if (x[i] != x[i]) return {__builtin_nan(""), __builtin_nan("")};
    }
    return {maximum, 0.0};
  }
  return {maximum, log64(sum_exp(x, n, maximum))};
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& args, Isa isa) {
  const ArgmaxKernel argmax = argmax_for(isa);
  for (int64_t row = 0; row < args.rows; ++row) {
    const float* x = args.logits + row * args.stride;
    const LogSum sum = log_sum(x, args.vocabulary, argmax);
    args.losses[row] = (sum.maximum - static_cast<double>(x[args.targets[row]])) + sum.log_sum;
  }
}

double log_sum_exp(const float* x, int64_t n, Isa isa) {
  const LogSum sum = log_sum(x, n, argmax_for(isa));
  return sum.maximum + sum.log_sum;
}

}  // namespace kvass
