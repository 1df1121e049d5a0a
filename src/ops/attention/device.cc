#include "ops/attention/device.h"

#include <algorithm>

#include "kernels/attention/device.h"
#include "kernels/attention_gradient/device.h"

namespace kvass {
namespace {

constexpr size_t kWorkspaceBytes = size_t{256} << 20;  // limit for the workspaces of attention_backward

template <class Void, class View>
DeviceRows<Void> rows_of(const View& t) {
  return {static_cast<Void*>(t.data), t.dtype, t.strides[0], t.strides[2], t.strides[1], t.strides[3]};
}

// The small arrays of a call, which are copied to the device with it: parts of the scratch.
struct Parts {
  float* logits;   // [heads]
  int64_t* first;  // [batch]
  uint8_t* attention;

  Parts(const AttentionProblem& p, size_t attention_bytes, Carver& carver) {
    attention = carver.take<uint8_t>(static_cast<int64_t>(attention_bytes));
    logits = carver.take<float>(static_cast<int64_t>(p.options.sink_logits.size()));
    first = carver.take<int64_t>(static_cast<int64_t>(p.options.first_position.size()));
  }
};

DeviceKeyRows key_rows(const AttentionProblem& p, const int64_t* first) {
  DeviceKeyRows keys;
  keys.k[0] = rows_of<const uint8_t>(p.keys.k_cache);
  keys.v[0] = rows_of<const uint8_t>(p.keys.v_cache);
  keys.k[1] = rows_of<const uint8_t>(p.keys.k_new);
  keys.v[1] = rows_of<const uint8_t>(p.keys.v_new);
  keys.cached = p.cached;
  keys.keys = p.key_count;
  keys.queries = p.queries;
  keys.causal = p.options.causal;
  keys.window = p.options.window;
  keys.window_right = p.options.window_right.value_or(-1);
  keys.chunk = p.options.attention_chunk;
  keys.sinks = std::min(p.options.sinks, p.key_count);
  keys.first_position = p.options.first_position.empty() ? nullptr : first;
  keys.mask = p.options.key_padding_mask.data;
  keys.mask_run = p.options.key_padding_mask.batch_stride;
  keys.mask_key = p.options.key_padding_mask.key_stride;
  return keys;
}

Status upload(const DeviceRuntime& runtime, const AttentionProblem& p, const Parts& parts, DeviceStream stream) {
  const auto& logits = p.options.sink_logits;
  const auto& first = p.options.first_position;
  KVASS_RETURN_IF_ERROR(runtime.upload(parts.logits, logits.data(), logits.size_bytes(), stream));
  return runtime.upload(parts.first, first.data(), first.size_bytes(), stream);
}

// The largest number of spans that a block's rows see after the sinks.
int64_t body_spans(const AttentionProblem& p) {
  int64_t length = 0;
  for (int64_t b = 0; b < p.batch; ++b) length = std::max(length, p.length(b) - p.sinks(b));
  const int64_t all = spans_between(0, length);
  if (p.options.window == 0 || !p.options.causal) return all;
  const int64_t together = std::min(p.options.window, length) + kDeviceBlockQueries;
  return std::min(all, (together + kSpanKeys - 1) / kSpanKeys + 1);
}

// The parameters that all calls share.
DeviceAttentionParams common_params(const AttentionProblem& p, const OpContext::State::Remote& remote) {
  DeviceAttentionParams params;
  params.q = rows_of<const void>(p.q);
  params.q_sink = rows_of<const void>(p.options.q_sink);
  params.heads = p.heads;
  params.kv_heads = p.kv_heads;
  params.head_dim = p.head_dim;
  params.dtype = p.q.dtype;
  params.scale = p.scale;
  params.softcap = p.options.softcap;
  params.run_count = p.batch;
  params.most_rows = p.queries;
  params.processors = remote.processors;
  params.shared_bytes = remote.shared_bytes;
  return params;
}

void point_at(const AttentionProblem& p, const Parts& parts, DeviceAttentionParams& params) {
  params.sink_logits = p.options.sink_logits.empty() ? nullptr : parts.logits;
  params.keys = key_rows(p, parts.first);
}

}  // namespace

Status attention_on_device(OpContext::State& state, const AttentionProblem& p, const Tensor& out) {
  KVASS_ASSIGN_OR_RETURN(const Backend backend, state.backend(p.op, p.q.device));
  if (p.batch == 0 || p.queries == 0) return {};
  KVASS_ASSIGN_OR_RETURN(OpContext::State::Remote* const remote, state.remote(p.q.device));

  DeviceAttentionParams params = common_params(p, *remote);
  params.out = rows_of<void>(out);
  for (int64_t b = 0; b < p.batch; ++b) {
    params.sink_spans = std::max(params.sink_spans, spans_between(0, p.sinks(b)));
  }
  params.body_spans = body_spans(p);

  const size_t bytes = device_attention_scratch_bytes(p.batch * p.queries, p.batch, p.heads, p.kv_heads, p.head_dim,
                                                      params.sink_spans + params.body_spans, remote->processors);
  Carver count(nullptr);
  (void)Parts(p, bytes, count);
  KVASS_ASSIGN_OR_RETURN(uint8_t* const scratch, state.reserve(*remote, count.bytes()));
  Carver carver(scratch);
  const Parts parts(p, bytes, carver);
  KVASS_RETURN_IF_ERROR(upload(*remote->kernels->runtime, p, parts, state.stream));
  params.scratch = parts.attention;
  point_at(p, parts, params);
  const auto attend =
      backend_numerics(backend) == Numerics::fast ? remote->kernels->attention_fast : remote->kernels->attention_exact;
  return attend(params, state.stream);
}

Status attention_backward_on_device(OpContext::State& state, const AttentionProblem& p, const ConstTensor& dout,
                                    const AttentionGradients& gradients) {
  KVASS_RETURN_IF_ERROR(state.backend(p.op, p.q.device).status());
  if (p.batch == 0) return {};
  KVASS_ASSIGN_OR_RETURN(OpContext::State::Remote* const remote, state.remote(p.q.device));
  DeviceGradientParams params;
  params.p = common_params(p, *remote);
  params.dout = rows_of<const void>(dout);
  params.dq = rows_of<void>(gradients.dq);
  params.dk = rows_of<void>(gradients.dk);
  params.dv = rows_of<void>(gradients.dv);
  for (int64_t b = 0; b < p.batch; ++b) params.tiles = std::max(params.tiles, p.sink_tiles(b) + p.ring_tiles(b));
  params.workspace_count = device_gradient_workspaces(params.tiles, remote->processors, kWorkspaceBytes);
  const size_t workspace_bytes =
      static_cast<size_t>(params.workspace_count) * device_gradient_workspace_bytes(params.tiles);

  const auto carve = [&](Carver& carver) {
    params.stats = carver.take<float>(3 * p.batch * p.heads * p.queries);
    return Parts(p, workspace_bytes, carver);
  };
  Carver count(nullptr);
  (void)carve(count);
  KVASS_ASSIGN_OR_RETURN(uint8_t* const scratch, state.reserve(*remote, count.bytes()));
  Carver carver(scratch);
  const Parts parts = carve(carver);
  KVASS_RETURN_IF_ERROR(upload(*remote->kernels->runtime, p, parts, state.stream));
  params.workspaces = parts.attention;
  point_at(p, parts, params.p);
  return remote->kernels->attention_gradient(params, state.stream);
}

}  // namespace kvass
