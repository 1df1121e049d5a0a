// include/kvass/operators.h: attention on the caller's tensors.
#include "api/c_common.h"
#include "kvass/operators.h"
#include "kvass/ops.h"

struct kvass_op_context {
  explicit kvass_op_context(kvass::OpContext made) : context(std::move(made)) {}

  kvass::OpContext context;
};

using namespace kvass;         // NOLINT: this file is the C API
using namespace kvass::c_api;  // NOLINT

namespace {

static_assert(kMaxRank == KVASS_MAX_RANK);

// The operator that a message is from: "attention: window".
struct Operator {
  const char* name;
  std::string operator()(std::string_view argument) const { return std::string(name).append(": ").append(argument); }
};

// What C alone can get wrong; ranks, sizes and memory are the operator's to check.
Result<Tensor> tensor_of(const kvass_tensor* from, const std::string& what) {
  KVASS_RETURN_IF_ERROR(given(from, what));
  Tensor to;
  KVASS_ASSIGN_OR_RETURN(to.dtype,
                         enum_at(what + ".dtype", from->dtype, {DType::f32, DType::f16, DType::bf16}, "KVASS_DTYPE_…"));
  KVASS_ASSIGN_OR_RETURN(to.device, enum_at(what + ".device", from->device, {Device::cpu, Device::cuda, Device::rocm},
                                            "KVASS_DEVICE_…", KVASS_DEVICE_CPU));
  if (from->reserved != 0) return bad_input(what + ".reserved", "0", std::to_string(from->reserved));
  to.data = from->data;
  to.rank = from->rank;
  std::copy(from->shape, from->shape + kMaxRank, to.shape.begin());
  std::copy(from->strides, from->strides + kMaxRank, to.strides.begin());
  return to;
}

Result<std::vector<ConstTensor>> tensors_of(const kvass_tensor* from, size_t count, const std::string& what) {
  KVASS_ASSIGN_OR_RETURN(const auto all, array_of(from, count, what));
  std::vector<ConstTensor> tensors;
  for (const kvass_tensor& one : all) {
    KVASS_ASSIGN_OR_RETURN(const Tensor tensor, tensor_of(&one, what));
    tensors.emplace_back(tensor);
  }
  return tensors;
}

// A list of options. An empty one would mean the same as none, so that a count which was forgotten is refused.
template <class T>
Result<std::span<const T>> list_of(const T* data, size_t count, const std::string& what, const std::string& count_of) {
  if (data != nullptr && count == 0) return bad_input(count_of, "at least 1 beside a list", "0");
  return array_of(data, count, what);
}

Result<AttentionOptions> attention_options(const kvass_attention_options* options, const Operator& op) {
  KVASS_ASSIGN_OR_RETURN(const kvass_attention_options all, options_of(options, "kvass_attention_options"));
  AttentionOptions result;
  result.causal = all.not_causal == 0;
  if (all.scale != nullptr) result.scale = *all.scale;
  result.softcap = all.softcap;
  result.window = all.window;
  result.sinks = all.sinks;
  if (all.q_sink != nullptr) {
    KVASS_ASSIGN_OR_RETURN(result.q_sink, tensor_of(all.q_sink, op("q_sink")));
    KVASS_RETURN_IF_ERROR(given(all.q_sink->data, op("q_sink.data")));
  }
  if (all.key_padding_mask != nullptr) {
    const kvass_key_padding_mask& mask = *all.key_padding_mask;
    KVASS_RETURN_IF_ERROR(given(mask.data, op("key_padding_mask.data")));
    result.key_padding_mask = {mask.data, mask.batch, mask.keys, mask.batch_stride, mask.key_stride};
  }
  KVASS_ASSIGN_OR_RETURN(result.first_position, list_of(all.first_position, all.first_position_count,
                                                        op("first_position"), op("first_position_count")));
  KVASS_ASSIGN_OR_RETURN(result.sink_logits,
                         list_of(all.sink_logits, all.sink_logit_count, op("sink_logits"), op("sink_logit_count")));
  if (all.window_right != nullptr) result.window_right = *all.window_right;
  result.attention_chunk = all.attention_chunk;
  KVASS_ASSIGN_OR_RETURN(result.cu_seqlens_q, list_of(all.cu_seqlens_q, all.cu_seqlens_q_count, op("cu_seqlens_q"),
                                                      op("cu_seqlens_q_count")));
  KVASS_ASSIGN_OR_RETURN(result.cu_seqlens_k, list_of(all.cu_seqlens_k, all.cu_seqlens_k_count, op("cu_seqlens_k"),
                                                      op("cu_seqlens_k_count")));
  return result;
}

}  // namespace

extern "C" {

kvass_tensor kvass_row_major(const void* data, int32_t dtype, int32_t rank, const int64_t* shape) {
  kvass_tensor tensor{};
  tensor.data = const_cast<void*>(data);
  tensor.dtype = dtype;
  tensor.rank = rank;
  if (shape == nullptr || rank < 0 || rank > KVASS_MAX_RANK) return tensor;
  uint64_t stride = 1;  // of sizes that no memory has it is any number; they are refused
  for (int32_t i = rank; i-- > 0; stride *= static_cast<uint64_t>(shape[i])) {
    tensor.shape[i] = shape[i];
    tensor.strides[i] = static_cast<int64_t>(stride);
  }
  return tensor;
}

kvass_code kvass_op_context_new(const kvass_op_context_options* options, kvass_op_context** context) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(context, "context"));
    KVASS_ASSIGN_OR_RETURN(const kvass_op_context_options all, options_of(options, "kvass_op_context_options"));
    OpContext::Options with;
    with.threads = all.threads;
    if (all.backends != nullptr) with.backends = all.backends;
    KVASS_ASSIGN_OR_RETURN(OpContext made, OpContext::create(with));
    *context = new kvass_op_context(std::move(made));
    return {};
  });
}

void kvass_op_context_free(kvass_op_context* context) { delete context; }

kvass_code kvass_op_context_set_stream(kvass_op_context* context, void* stream) {
  return call([&]() -> Status {
    KVASS_RETURN_IF_ERROR(given(context, "context"));
    return context->context.set_stream(stream);
  });
}

kvass_code kvass_attention(kvass_op_context* context, const kvass_tensor* q, const kvass_tensor* k,
                           const kvass_tensor* v, const kvass_attention_options* options, const kvass_tensor* out,
                           const kvass_tensor* lse) {
  return call([&]() -> Status {
    const Operator op{"attention"};
    KVASS_RETURN_IF_ERROR(given(context, op("context")));
    KVASS_ASSIGN_OR_RETURN(const Tensor queries, tensor_of(q, op("q")));
    KVASS_ASSIGN_OR_RETURN(const Tensor keys, tensor_of(k, op("k")));
    KVASS_ASSIGN_OR_RETURN(const Tensor values, tensor_of(v, op("v")));
    KVASS_ASSIGN_OR_RETURN(const AttentionOptions all, attention_options(options, op));
    KVASS_ASSIGN_OR_RETURN(const Tensor to, tensor_of(out, op("out")));
    if (lse != nullptr) {
      KVASS_ASSIGN_OR_RETURN(const Tensor sums, tensor_of(lse, op("lse")));
      return attention_with_lse(context->context, queries, keys, values, all, to, sums);
    }
    const auto run = to.dtype == DType::f32 ? attention_fp32 : attention;
    return run(context->context, queries, keys, values, all, to);
  });
}

kvass_code kvass_kv_cache_attention(kvass_op_context* context, const kvass_tensor* q, const kvass_cached_keys* keys,
                                    const kvass_attention_options* options, const kvass_tensor* out) {
  return call([&]() -> Status {
    const Operator op{"kv_cache_attention"};
    KVASS_RETURN_IF_ERROR(given(context, op("context")));
    KVASS_ASSIGN_OR_RETURN(const Tensor queries, tensor_of(q, op("q")));
    KVASS_RETURN_IF_ERROR(given(keys, op("keys")));
    CachedKeys cached;
    KVASS_ASSIGN_OR_RETURN(cached.k_cache, tensor_of(&keys->k_cache, op("k_cache")));
    KVASS_ASSIGN_OR_RETURN(cached.v_cache, tensor_of(&keys->v_cache, op("v_cache")));
    KVASS_ASSIGN_OR_RETURN(cached.k_new, tensor_of(&keys->k_new, op("k_new")));
    KVASS_ASSIGN_OR_RETURN(cached.v_new, tensor_of(&keys->v_new, op("v_new")));
    KVASS_ASSIGN_OR_RETURN(const AttentionOptions all, attention_options(options, op));
    KVASS_ASSIGN_OR_RETURN(const Tensor to, tensor_of(out, op("out")));
    const auto run = to.dtype == DType::f32 ? kv_cache_attention_fp32 : kv_cache_attention;
    return run(context->context, queries, cached, all, to);
  });
}

kvass_code kvass_attention_backward(kvass_op_context* context, const kvass_tensor* q, const kvass_tensor* k,
                                    const kvass_tensor* v, const kvass_tensor* dout, const kvass_tensor* dlse,
                                    const kvass_attention_options* options,
                                    const kvass_attention_gradients* gradients) {
  return call([&]() -> Status {
    const Operator op{"attention_backward"};
    KVASS_RETURN_IF_ERROR(given(context, op("context")));
    KVASS_ASSIGN_OR_RETURN(const Tensor queries, tensor_of(q, op("q")));
    KVASS_ASSIGN_OR_RETURN(const Tensor keys, tensor_of(k, op("k")));
    KVASS_ASSIGN_OR_RETURN(const Tensor values, tensor_of(v, op("v")));
    KVASS_ASSIGN_OR_RETURN(const Tensor of_out, tensor_of(dout, op("dout")));
    ConstTensor of_lse;
    if (dlse != nullptr) {
      KVASS_ASSIGN_OR_RETURN(of_lse, tensor_of(dlse, op("dlse")));
    }
    KVASS_ASSIGN_OR_RETURN(const AttentionOptions all, attention_options(options, op));
    KVASS_RETURN_IF_ERROR(given(gradients, op("gradients")));
    AttentionGradients to;
    KVASS_ASSIGN_OR_RETURN(to.dq, tensor_of(&gradients->dq, op("dq")));
    KVASS_ASSIGN_OR_RETURN(to.dk, tensor_of(&gradients->dk, op("dk")));
    KVASS_ASSIGN_OR_RETURN(to.dv, tensor_of(&gradients->dv, op("dv")));
    return attention_backward(context->context, queries, keys, values, of_out, all, to, of_lse);
  });
}

kvass_code kvass_merge_attention(kvass_op_context* context, const kvass_tensor* outs, const kvass_tensor* lses,
                                 size_t count, const kvass_tensor* out, const kvass_tensor* lse) {
  return call([&]() -> Status {
    const Operator op{"merge_attention"};
    KVASS_RETURN_IF_ERROR(given(context, op("context")));
    if (count == 0) return bad_input(op("count"), "at least one part", "0");
    KVASS_ASSIGN_OR_RETURN(const std::vector<ConstTensor> parts, tensors_of(outs, count, op("outs")));
    KVASS_ASSIGN_OR_RETURN(const std::vector<ConstTensor> sums, tensors_of(lses, count, op("lses")));
    KVASS_ASSIGN_OR_RETURN(const Tensor to, tensor_of(out, op("out")));
    KVASS_ASSIGN_OR_RETURN(const Tensor to_lse, tensor_of(lse, op("lse")));
    return merge_attention(context->context, parts, sums, to, to_lse);
  });
}

kvass_code kvass_update_cross_attn_cache(kvass_op_context* context, const kvass_tensor* value,
                                         const kvass_tensor* cache) {
  return call([&]() -> Status {
    const Operator op{"update_cross_attn_cache"};
    KVASS_RETURN_IF_ERROR(given(context, op("context")));
    KVASS_ASSIGN_OR_RETURN(const Tensor from, tensor_of(value, op("value")));
    KVASS_ASSIGN_OR_RETURN(const Tensor to, tensor_of(cache, op("cache")));
    return update_cross_attn_cache(context->context, from, to).status();
  });
}

}  // extern "C"
