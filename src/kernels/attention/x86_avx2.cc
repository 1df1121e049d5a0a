#include "kernels/attention/generic.h"
#include "kernels/simd/avx2.h"

namespace kvass::avx2 {

// Six rows of 16 lanes are 12 of the 16 registers.
const AttentionBlockKernel attention_block = &run_block<V, 6>;
const AttentionMergeKernel attention_merge = &merge_rows<V>;

}  // namespace kvass::avx2
