// The attention operators on strided tensors in the memory of the CPU or of a device (all tensors of a call in the same
// memory), and the registry that lists the backends. Models' caches use the same attention: a row has the same bits
// through either (docs/numerics.md).
//
// Not a framework: nothing is allocated for the caller, no input is modified, and on an error nothing is written. An
// OpContext owns threads and scratch; there is no other state. Contracts: docs/operators.
//
// Letters: B batch, Hq query heads, Hkv key heads (Hq a multiple of Hkv), Sq queries, Skv keys, D head size (1 … 512).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvass/export.h"
#include "kvass/status.h"
#include "kvass/tensor.h"

namespace kvass {

// Threads, scratch and the choice of backends. Calls through one context run one after another; contexts are
// independent. One that was moved from is bad_input to every call.
class KVASS_API OpContext {
 public:
  struct Options {
    int threads = 0;       // 0: one for each CPU that the process may use
    std::string backends;  // "operator=backend,…"; overrides the environment variable KVASS_BACKEND of the same form
  };
  static Result<OpContext> create(const Options& options);
  static Result<OpContext> create() { return create(Options{}); }
  // Sets the device stream (cudaStream_t, hipStream_t) for later calls on device tensors; null: the device's default
  // stream, which is also the initial one. A call launches its kernels there and returns. Calls of one context share
  // scratch, so the new device stream first waits for the work of the old one, which must still exist. A call that
  // needs more scratch than any before waits for the device; such a call is refused within a captured graph.
  Status set_stream(void* stream);
  OpContext(OpContext&&) noexcept;
  OpContext& operator=(OpContext&&) noexcept;
  ~OpContext();

  struct KVASS_HIDDEN State;
  State* state() { return state_.get(); }  // for the operators; null: it was moved from

 private:
  explicit OpContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Which keys are valid: [B, Skv], a byte each, 0 = padding, in memory of q's device. Strides in bytes.
struct KeyPaddingMask {
  const uint8_t* data = nullptr;  // null: every key is valid
  int64_t batch = 0;
  int64_t keys = 0;
  int64_t batch_stride = 0;
  int64_t key_stride = 1;
};

// Query row i has position p = Skv − Sq + i. It sees key j if
//     (not causal or j <= p) and (no window or p − j < window or j − first < sinks) and first <= j and the mask has j
//     and (no window_right or j − p <= window_right) and (no attention_chunk or j and p are in the same chunk)
// with first = first_position[b], the start of the sequence: keys before it are left padding. Chunk n of the sequence
// is positions first + n · attention_chunk and the attention_chunk − 1 after it.
//
// Packed documents: with cu_seqlens the rows of q and the keys are those of N documents one after another, and each
// document is attended to as if it were a call of its own (same bits). Document n is query rows [cu_seqlens_q[n],
// cu_seqlens_q[n + 1]) and keys [cu_seqlens_k[n], cu_seqlens_k[n + 1]), counted over all batch rows, one batch row
// after another; a document lies in one batch row.
struct AttentionOptions {
  bool causal = true;
  std::optional<float> scale;  // default 1/√D
  float softcap = 0.0f;        // scores become softcap · tanh(score / softcap); 0: no cap
  int64_t window = 0;          // number of latest keys that a query sees, its own included; 0: all
  int64_t sinks = 0;           // first keys of the sequence, which stay visible outside the window
  ConstTensor q_sink;          // [B, Hq, Sq, D] of q's dtype: the query rotated for sink keys; no data: q
  KeyPaddingMask key_padding_mask;
  std::span<const int64_t> first_position;  // [B] or empty: 0
  std::span<const float> sink_logits;       // [Hq] or empty: exp(logit) is added to the head's softmax denominator
  std::optional<int64_t> window_right;      // number of keys after its own position that a query sees; none: no limit
  int64_t attention_chunk = 0;              // positions of a chunk; 0: no chunks. Without sinks only
  std::span<const int64_t> cu_seqlens_q;    // [N + 1] from 0 to B · Sq, or empty: no documents
  std::span<const int64_t> cu_seqlens_k;    // [N + 1] from 0 to B · Skv; empty: cu_seqlens_q, if Skv = Sq
};

// out[b, h, i] = Σ_j softmax_j(cap(q[b, h, i] · k[b, h / (Hq / Hkv), j] · scale)) v[b, h / (Hq / Hkv), j]; a row that
// sees no key is exactly +0. q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D], all of one dtype. `attention` rounds the float32
// result once to that dtype, which is out's; `attention_fp32` has a float32 `out`. out [B, Hq, Sq, D].
KVASS_API Status attention(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v,
                           const AttentionOptions& options, Tensor out);
KVASS_API Status attention_fp32(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v,
                                const AttentionOptions& options, Tensor out);
// The same, with the logarithm of each row's softmax denominator, sink logits included: lse [B, Hq, Sq] in float32,
// minus infinity for a row that sees no key. out is float32 or of q's dtype. On the CPU.
KVASS_API Status attention_with_lse(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v,
                                    const AttentionOptions& options, Tensor out, Tensor lse);

// Attention over the cached keys followed by the new keys: k_cache, v_cache [B, Hkv, C, D], C may be 0; k_new, v_new
// [B, Hkv, Sq, D], as many rows as q. Skv = C + Sq. Nothing is concatenated and the cache is not changed.
struct CachedKeys {
  ConstTensor k_cache, v_cache, k_new, v_new;
};
KVASS_API Status kv_cache_attention(OpContext& context, ConstTensor q, const CachedKeys& keys,
                                    const AttentionOptions& options, Tensor out);
KVASS_API Status kv_cache_attention_fp32(OpContext& context, ConstTensor q, const CachedKeys& keys,
                                         const AttentionOptions& options, Tensor out);

// Gradients of Σ dout · attention(q, k, v) in float32: dout [B, Hq, Sq, D] in any dtype; dq [B, Hq, Sq, D]; dk, dv [B,
// Hkv, Skv, D], float32. A key that no row sees has gradient +0. q_sink is refused. With dlse [B, Hq, Sq], float32,
// they are those of Σ dout · out + Σ dlse · lse (attention_with_lse), on the CPU.
struct AttentionGradients {
  Tensor dq, dk, dv;
};
KVASS_API Status attention_backward(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor dout,
                                    const AttentionOptions& options, const AttentionGradients& gradients,
                                    ConstTensor dlse = {});

// The attention over all keys from the attentions over parts of them: outs, N of [B, H, S, D] in one dtype, and their
// lses, N of [B, H, S] in float32, in order (docs/numerics.md, 6: as spans). out [B, H, S, D] in float32 or of their
// dtype; lse [B, H, S] in float32. A part with an lse of minus infinity adds nothing. On the CPU.
KVASS_API Status merge_attention(OpContext& context, std::span<const ConstTensor> outs,
                                 std::span<const ConstTensor> lses, Tensor out, Tensor lse);

// The same two tensors.
inline std::pair<Tensor, Tensor> alias(const Tensor& a, const Tensor& b) { return {a, b}; }

// Copies value [B, H, S, D] into cache[:, :, :S] of cache [B, H, S_max, D]; the rest of the cache is not changed.
// Returns the cache.
KVASS_API Result<Tensor> update_cross_attn_cache(OpContext& context, ConstTensor value, Tensor cache);

// A row of the registry: a backend of an operator on a device.
struct Backend {
  std::string_view op;
  Device device = Device::cpu;
  std::string_view name;  // "reference", "avx2", …
  int priority = 0;       // the available backend with the highest priority is used
  bool available = false;
  std::string reason;  // why it is not available; empty if it is
};
KVASS_API std::vector<Backend> list_backends();  // all backends of this build; `available` is for this machine

// The backend that `op` uses on `device`. The first that is given counts: `name`, KVASS_BACKEND, the instruction set
// forced by KVASS_ISA, the highest priority. If the operator has no row for that set, the reference is used.
KVASS_API Result<Backend> get_backend(std::string_view op, Device device, std::string_view name = "");

}  // namespace kvass
