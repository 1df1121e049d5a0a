#include "kernels/attention/generic.h"
#include "kernels/simd/avx512vnni.h"

namespace kvass::avx512vnni {

// Six rows of four vectors are 24 of the 32 registers.
const AttentionBlockKernel attention_block = &run_block<V, 24>;
const AttentionMergeKernel attention_merge = &merge_rows<V>;

}  // namespace kvass::avx512vnni
