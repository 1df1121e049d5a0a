#include "kernels/attention/generic.h"
#include "kernels/simd/neon.h"

namespace kvass::neon {

// Six rows of 16 lanes are 24 of the 32 registers.
const AttentionBlockKernel attention_block = &run_block<V, 6>;
const AttentionMergeKernel attention_merge = &merge_rows<V>;

}  // namespace kvass::neon
