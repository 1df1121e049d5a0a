// The attention operators on tensors of a device: what follows their checks (problem.h). Launches on the context's
// stream and does not wait.
#pragma once

#include "ops/attention/problem.h"
#include "ops/context.h"

namespace kvass {

// The context's mutex is held.
Status attention_on_device(OpContext::State& state, const AttentionProblem& problem, const Tensor& out);
Status attention_backward_on_device(OpContext::State& state, const AttentionProblem& problem, const ConstTensor& dout,
                                    const AttentionGradients& gradients);

}  // namespace kvass
