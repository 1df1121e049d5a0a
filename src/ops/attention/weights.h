// The softmax weights of one head of an attention, for looking at what a row listens to (word times from
// cross-attention). Not part of computing it: attention.h never has them in memory. Owns nothing, allocates nothing.
//
//     out[r, j] = exp(s[r, j] − max_j s) / Σ_j exp(s[r, j] − max_j s),     s[r, j] = (q[r, head] · k[j, head / group])
//     · scale
//
// over the keys [begin, end) that row r sees in the body; sink segments, caps and rotation are not taken. A dot
// product is one chain over the head, the sum 16 lanes by key that fold 8+8, 4+4, 2+2, 1+1 (NUMERICS rules 2 and 3).
#pragma once

#include "ops/attention/attention.h"

namespace kvass {

// out: row r of the args begins at r * out_stride and has visible.end − visible.begin weights.
void attention_weights(const AttentionArgs& args, int64_t head, float* out, int64_t out_stride, ThreadPool& pool);

}  // namespace kvass
