#include "kernels/layer_norm/layer_norm.h"

namespace kvass::scalar {
namespace {

float fold(float (&lanes)[16]) {
  for (int half = 8; half >= 1; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

void layer_norm_scalar(const LayerNormArgs& args) {
  const float n = static_cast<float>(args.n);
  for (int64_t row = 0; row < args.rows; ++row) {
    const float* x = args.x + row * args.n;
    float* y = args.y + row * args.n;
    float s[16] = {};
    for (int64_t k = 0; k < args.n; ++k) s[k % 16] = s[k % 16] + x[k];
    const float mean = fold(s) / n;
    float ss[16] = {};
    for (int64_t k = 0; k < args.n; ++k) {
      const float d = x[k] - mean;
      ss[k % 16] = __builtin_fmaf(d, d, ss[k % 16]);
    }
    const float r = 1.0f / __builtin_sqrtf(fold(ss) / n + args.epsilon);
    for (int64_t k = 0; k < args.n; ++k) y[k] = __builtin_fmaf((x[k] - mean) * r, args.w[k], args.b[k]);
  }
}

}  // namespace

const LayerNormKernel layer_norm = &layer_norm_scalar;

}  // namespace kvass::scalar
