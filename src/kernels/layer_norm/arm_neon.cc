#include "kernels/layer_norm/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {
namespace {

void layer_norm_kernel(const LayerNormArgs& args) { layer_norm_rows<V>(args); }

}  // namespace

const LayerNormKernel layer_norm = &layer_norm_kernel;

}  // namespace kvass::neon
