// The softmax weights of one attention head, to inspect which keys a row attends to (word times from cross-attention).
// Not part of the attention itself, which never has them in memory. Owns nothing, allocates nothing.
//
//     out[r, j] = exp(s[r, j] − max_j s) / Σ_j exp(s[r, j] − max_j s),     s[r, j] = (q[r, head] · k[j, head / group])
//     · scale
//
// over the keys [begin, end) that row r sees in the body segment. Sink segments, caps and rotation are not supported. A
// dot product is one chain over the head (docs/numerics.md, 2); the sum has 16 lanes by key that fold 8+8, 4+4, 2+2,
// 1+1.
#pragma once

#include "ops/attention/attention.h"

namespace kvass {

// out: the weights of row r begin at r * out_stride; there are visible.end − visible.begin of them.
void attention_weights(const AttentionArgs& args, int64_t head, float* out, int64_t out_stride, ThreadPool& pool);

}  // namespace kvass
