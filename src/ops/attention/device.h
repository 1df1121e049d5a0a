// The attention operators on device tensors, after the checks (problem.h). Launches on the context's device stream and
// does not wait.
#pragma once

#include "ops/attention/problem.h"
#include "ops/context.h"

namespace kvass {

// The caller holds the context's mutex.
Status attention_on_device(OpContext::State& state, const AttentionProblem& problem, const Tensor& out);
Status attention_backward_on_device(OpContext::State& state, const AttentionProblem& problem, const ConstTensor& dout,
                                    const AttentionGradients& gradients);

}  // namespace kvass
