#include "kernels/rms_norm/rms_norm.h"

namespace kvass::scalar {
namespace {

void rms_norm_scalar(const RmsNormArgs& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* y = args.y + row * args.y_stride;
    float ss[16] = {};
    for (int64_t k = 0; k < args.n; ++k) ss[k % 16] = __builtin_fmaf(x[k], x[k], ss[k % 16]);
    for (int half = 8; half >= 1; half /= 2) {
      for (int lane = 0; lane < half; ++lane) ss[lane] += ss[lane + half];
    }
    const float r = 1.0f / __builtin_sqrtf(ss[0] / static_cast<float>(args.n) + args.epsilon);
    for (int64_t k = 0; k < args.n; ++k) y[k] = (x[k] * r) * args.w[k];
  }
}

}  // namespace

const RmsNormKernel rms_norm = &rms_norm_scalar;

}  // namespace kvass::scalar
