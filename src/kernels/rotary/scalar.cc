#include "kernels/rotary/rotate_row.h"

namespace kvass::scalar {
namespace {

void rotate_row_scalar(const float* x, const float* cos, const float* sin, float* y, int64_t heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 0; i < half; ++i) {
      const float x1 = x[head * head_dim + i];
      const float x2 = x[head * head_dim + half + i];
      y[head * head_dim + i] = __builtin_fmaf(x1, cos[i], -(x2 * sin[i]));
      y[head * head_dim + half + i] = __builtin_fmaf(x2, cos[i], x1 * sin[i]);
    }
  }
}

void rotate_adjacent_scalar(const float* x, const float* cos, const float* sin, float* y, int64_t heads,
                            int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 0; i < half; ++i) {
      const float x1 = x[head * head_dim + 2 * i];
      const float x2 = x[head * head_dim + 2 * i + 1];
      y[head * head_dim + 2 * i] = __builtin_fmaf(x1, cos[i], -(x2 * sin[i]));
      y[head * head_dim + 2 * i + 1] = __builtin_fmaf(x2, cos[i], x1 * sin[i]);
    }
  }
}

}  // namespace

const RotateRowKernel rotate_row = &rotate_row_scalar;
const RotateRowKernel rotate_adjacent = &rotate_adjacent_scalar;

}  // namespace kvass::scalar
