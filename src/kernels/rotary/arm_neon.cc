#include "kernels/rotary/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {
namespace {

void rotate_row_kernel(const float* x, const float* cos, const float* sin, float* y, int64_t heads, int64_t head_dim) {
  rotate_heads<V>(x, cos, sin, y, heads, head_dim);
}

void rotate_adjacent_kernel(const float* x, const float* cos, const float* sin, float* y, int64_t heads,
                            int64_t head_dim) {
  rotate_heads_adjacent<V>(x, cos, sin, y, heads, head_dim);
}

}  // namespace

const RotateRowKernel rotate_row = &rotate_row_kernel;
const RotateRowKernel rotate_adjacent = &rotate_adjacent_kernel;

}  // namespace kvass::neon
