#include "kernels/rms_norm/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {
namespace {

void rms_norm_kernel(const RmsNormArgs& args) { rms_norm_rows<V>(args); }

}  // namespace

const RmsNormKernel rms_norm = &rms_norm_kernel;

}  // namespace kvass::neon
