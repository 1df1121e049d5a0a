#include "kernels/rms_norm/generic.h"
#include "kernels/simd/avx512vnni.h"

namespace kvass::avx512vnni {
namespace {

void rms_norm_kernel(const RmsNormArgs& args) { rms_norm_rows<V>(args); }

}  // namespace

const RmsNormKernel rms_norm = &rms_norm_kernel;

}  // namespace kvass::avx512vnni
