#include "kernels/attention/generic.h"
#include "kernels/simd/dotprod.h"

namespace kvass::dotprod {

// As for NEON, with another dot product for q8 keys.
const AttentionBlockKernel attention_block = &run_block<V, 6>;

}  // namespace kvass::dotprod
