// Losses of rows of logits, in double: -ln p(target) = (m - x[target]) + ln Σ exp(x[i] - m), m the row's maximum.
// The order (docs/numerics.md, 3): differences in double, 16 double lanes from +0, lane l takes the elements with i mod
// 16 = l ascending, the lanes fold 8+8, 4+4, 2+2, 1+1; exp and log are those of kernels/functions64.h. Rows are
// independent. A row with a NaN or +inf logit has the loss NaN. The largest logits of a row are in ops/sample/top_k.h.
#pragma once

#include <cstdint>

#include "base/cpu.h"

namespace kvass {

struct CrossEntropyArgs {
  const float* logits = nullptr;     // [rows][vocabulary], rows `stride` floats apart
  const int32_t* targets = nullptr;  // [rows], in [0, vocabulary)
  double* losses = nullptr;          // [rows], natural logarithm
  int64_t rows = 0;
  int64_t vocabulary = 0;
  int64_t stride = 0;  // floats
};

void cross_entropy(const CrossEntropyArgs& args, Isa isa);

// ln Σ exp(x[i]) over x[n] in the order above; -inf for a row of -inf.
double log_sum_exp(const float* x, int64_t n, Isa isa);

}  // namespace kvass
