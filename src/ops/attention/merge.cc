// merge_attention (kvass/ops.h): parts with m = lse and l = 1, merged as spans (docs/numerics.md, 6). A row is one
// chain; threads share the rows.
#include <algorithm>

#include "base/float_env.h"
#include "kernels/attention/attention.h"
#include "kernels/functions.h"
#include "kernels/functions64.h"
#include "kernels/simd/scalar.h"
#include "ops/context.h"
#include "ops/views.h"

namespace kvass {
namespace {

constexpr std::string_view kOp = "merge_attention";

Status check_output(const Argument& to, const Argument& first, std::initializer_list<int64_t> sizes,
                    std::string_view form, std::span<const ConstTensor> outs, std::span<const ConstTensor> lses) {
  KVASS_RETURN_IF_ERROR(to.check_device(Device::cpu));
  KVASS_RETURN_IF_ERROR(to.check_shape(sizes, form));
  if (to.tensor.dtype != DType::f32) KVASS_RETURN_IF_ERROR(to.check_dtype(first.tensor.dtype, "as the parts"));
  if (overlaps_itself(to.tensor)) return to.bad("elements that do not overlap", "strides that make them");
  for (const std::span<const ConstTensor> parts : {outs, lses}) {
    for (const ConstTensor& part : parts) {
      if (overlap(to.tensor, part)) return to.bad("memory apart from the inputs", "some that overlaps one of them");
    }
  }
  return {};
}

Status check(std::span<const ConstTensor> outs, std::span<const ConstTensor> lses, const Tensor& out,
             const Tensor& lse) {
  if (outs.empty() || outs.size() != lses.size()) {
    return bad_input("merge_attention: lses", "as many as outs, at least one",
                     std::to_string(lses.size()) + " for " + std::to_string(outs.size()));
  }
  const Argument first{kOp, "outs", outs[0]};
  KVASS_RETURN_IF_ERROR(first.check(4));
  const auto& s = outs[0].shape;
  if (s[3] > kAttentionMaxHeadDim) {
    return first.bad("[B, H, S, D] with D of at most " + std::to_string(kAttentionMaxHeadDim));
  }
  for (size_t n = 0; n < outs.size(); ++n) {
    const Argument part{kOp, "outs", outs[n]};
    KVASS_RETURN_IF_ERROR(part.check_device(Device::cpu));
    KVASS_RETURN_IF_ERROR(part.check_shape({s[0], s[1], s[2], s[3]}, "the first one's shape [B, H, S, D]"));
    KVASS_RETURN_IF_ERROR(part.check_dtype(outs[0].dtype, "as the first"));
    const Argument sums{kOp, "lses", lses[n]};
    KVASS_RETURN_IF_ERROR(sums.check_device(Device::cpu));
    KVASS_RETURN_IF_ERROR(sums.check_shape({s[0], s[1], s[2]}, "[B, H, S] of outs"));
    KVASS_RETURN_IF_ERROR(sums.check_dtype(DType::f32, "an lse"));
  }
  const Argument to{kOp, "out", out};
  KVASS_RETURN_IF_ERROR(check_output(to, first, {s[0], s[1], s[2], s[3]}, "[B, H, S, D] of outs", outs, lses));
  const Argument to_lse{kOp, "lse", lse};
  KVASS_RETURN_IF_ERROR(check_output(to_lse, first, {s[0], s[1], s[2]}, "[B, H, S] of outs", outs, lses));
  KVASS_RETURN_IF_ERROR(to_lse.check_dtype(DType::f32, "an lse"));
  if (overlap(out, lse)) return to_lse.bad("memory apart from out", "some that overlaps it");
  return {};
}

void merge_row(std::span<const ConstTensor> outs, std::span<const ConstTensor> lses, int64_t b, int64_t h, int64_t i,
               const Tensor& out, const Tensor& lse) {
  using V = scalar::V;
  const int64_t head_dim = out.shape[3];
  float m = 0.0f, l = 0.0f;
  float o[kAttentionMaxHeadDim] = {}, part[kAttentionMaxHeadDim];
  for (size_t n = 0; n < outs.size(); ++n) {
    float top;
    load_elements(element(lses[n], b, h, i), DType::f32, 1, 1, &top);
    if (top == -__builtin_inff()) continue;
    load_elements(element(outs[n], b, h, i), outs[n].dtype, outs[n].strides[3], head_dim, part);
    if (l == 0.0f) {
      m = top;
      l = 1.0f;
      std::copy(part, part + head_dim, o);
      continue;
    }
    const float highest = std::max(m, top);
    const float a = exp<V>(m - highest), weight = exp<V>(top - highest);
    m = highest;
    l = __builtin_fmaf(1.0f, weight, l * a);
    for (int64_t d = 0; d < head_dim; ++d) o[d] = __builtin_fmaf(part[d], weight, o[d] * a);
  }
  const float inverse = 1.0f / l;
  for (int64_t d = 0; d < head_dim; ++d) o[d] = l == 0.0f ? 0.0f : o[d] * inverse;
  const float sum = l == 0.0f ? -__builtin_inff() : static_cast<float>(double{m} + log64(double{l}));
  store_elements(o, head_dim, out.dtype, out.strides[3], const_cast<uint8_t*>(element(out, b, h, i)));
  store_elements(&sum, 1, DType::f32, 1, const_cast<uint8_t*>(element(lse, b, h, i)));
}

}  // namespace

Status merge_attention(OpContext& context, std::span<const ConstTensor> outs, std::span<const ConstTensor> lses,
                       Tensor out, Tensor lse) {
  KVASS_RETURN_IF_ERROR(check(outs, lses, out, lse));
  KVASS_RETURN_IF_ERROR(check_context(context, "merge_attention"));
  OpContext::State& state = *context.state();
  const std::lock_guard lock(state.mutex);
  const FloatEnvironment environment;
  const int64_t heads = out.shape[1], rows = out.shape[2];
  state.pool.run(out.shape[0] * heads * rows, [&](int64_t task, int) {
    merge_row(outs, lses, task / rows / heads, task / rows % heads, task % rows, out, lse);
  });
  return {};
}

}  // namespace kvass
