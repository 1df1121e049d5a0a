#include "kernels/rms_norm/generic.h"
#include "kernels/simd/avx2.h"

namespace kvass::avx2 {
namespace {

void rms_norm_kernel(const RmsNormArgs& args) { rms_norm_rows<V>(args); }

}  // namespace

const RmsNormKernel rms_norm = &rms_norm_kernel;

}  // namespace kvass::avx2
