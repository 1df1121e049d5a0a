#include "kernels/attention/generic.h"
#include "kernels/simd/dotprod.h"

namespace kvass::dotprod {

// As NEON's, with another dot for keys of q8.
const AttentionBlockKernel attention_block = &run_block<V, 6>;

}  // namespace kvass::dotprod
