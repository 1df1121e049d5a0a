// The attention operators on strided tensors from anywhere (the CPU's memory or a device's, all tensors of a call in
// one), and the registry that says which backends there are. One attention for these and for models' caches: the bits
// of a row are the same through either (docs/numerics.md).
//
// Not a framework: nothing is allocated for the caller, no input is modified, and on an error nothing has been written.
// An OpContext owns threads and scratch; there is no other state. Contracts: docs/operators.
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

// Threads, scratch and the choice of backends. Calls through one context take turns; contexts do not know each other.
class KVASS_API OpContext {
 public:
  struct Options {
    int threads = 0;       // 0: one for each CPU that the process may use
    std::string backends;  // "operator=backend,…", before the environment variable KVASS_BACKEND of the same form
  };
  static Result<OpContext> create(const Options& options);
  static Result<OpContext> create() { return create(Options{}); }
  // The stream (cudaStream_t, hipStream_t) of later calls on tensors of a device; null: its default stream, as at
  // first. A call launches there and returns. Calls of one context share scratch, so a new stream first waits for what
  // the old one, which must still exist, has been given. Scratch grows with the largest call so far, which waits for
  // the device and is refused within a captured graph.
  Status set_stream(void* stream);
  OpContext(OpContext&&) noexcept;
  OpContext& operator=(OpContext&&) noexcept;
  ~OpContext();

  struct KVASS_HIDDEN State;
  State& state() { return *state_; }  // for the operators

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

// Query row i stands at p = Skv − Sq + i. It sees key j when
//     (not causal or j <= p) and (no window or p − j < window or j − first < sinks) and first <= j and the mask has j
// with first = first_position[b], where the sequence begins: keys before it are left padding.
struct AttentionOptions {
  bool causal = true;
  std::optional<float> scale;  // default 1/√D
  float softcap = 0.0f;        // scores become softcap · tanh(score / softcap); 0: they do not
  int64_t window = 0;          // latest keys that a query sees, its own included; 0: all
  int64_t sinks = 0;           // first keys of the sequence that stay visible behind the window
  ConstTensor q_sink;          // [B, Hq, Sq, D] of q's dtype: the query as sinks see it; no data: q
  KeyPaddingMask key_padding_mask;
  std::span<const int64_t> first_position;  // [B] or empty: 0
  std::span<const float> sink_logits;       // [Hq] or empty: of each head, added to the softmax's denominator as exp
};

// out[b, h, i] = Σ_j softmax_j(cap(q[b, h, i] · k[b, h / (Hq / Hkv), j] · scale)) v[b, h / (Hq / Hkv), j]; a row that
// sees no key is exactly +0. q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D], all of one dtype. `attention` rounds the float32
// result once to that dtype, which is out's; `attention_fp32` has a float32 `out`. out [B, Hq, Sq, D].
KVASS_API Status attention(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v,
                           const AttentionOptions& options, Tensor out);
KVASS_API Status attention_fp32(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v,
                                const AttentionOptions& options, Tensor out);

// Attention over cache, then new, along the sequence: k_cache, v_cache [B, Hkv, C, D], C may be 0; k_new, v_new [B,
// Hkv, Sq, D], as many rows as q. Skv = C + Sq; nothing is concatenated and the cache is not changed.
struct CachedKeys {
  ConstTensor k_cache, v_cache, k_new, v_new;
};
KVASS_API Status kv_cache_attention(OpContext& context, ConstTensor q, const CachedKeys& keys,
                                    const AttentionOptions& options, Tensor out);
KVASS_API Status kv_cache_attention_fp32(OpContext& context, ConstTensor q, const CachedKeys& keys,
                                         const AttentionOptions& options, Tensor out);

// Gradients of Σ dout · attention(q, k, v) in float32: dout [B, Hq, Sq, D] in any dtype; dq [B, Hq, Sq, D]; dk, dv [B,
// Hkv, Skv, D], float32. What no row sees has gradient +0. q_sink is refused.
struct AttentionGradients {
  Tensor dq, dk, dv;
};
KVASS_API Status attention_backward(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor dout,
                                    const AttentionOptions& options, const AttentionGradients& gradients);

// The same two tensors.
inline std::pair<Tensor, Tensor> alias(const Tensor& a, const Tensor& b) { return {a, b}; }

// Copies value [B, H, S, D] into cache[:, :, :S] of cache [B, H, S_max, D]; the rest of the cache is not touched. Gives
// the cache.
KVASS_API Result<Tensor> update_cross_attn_cache(OpContext& context, ConstTensor value, Tensor cache);

// A row of the registry: an operator on a device by a backend.
struct Backend {
  std::string_view op;
  Device device = Device::cpu;
  std::string_view name;  // "reference", "avx2", …
  int priority = 0;       // of those available, the highest is taken
  bool available = false;
  std::string reason;  // why not; empty where it is available
};
KVASS_API std::vector<Backend> list_backends();  // of this build, on this machine

// The backend that `op` uses on `device`: `name` where it is not empty; then what KVASS_BACKEND says, then the set that
// KVASS_ISA forces, then the highest priority. An operator or set without such a row falls back to the reference.
KVASS_API Result<Backend> get_backend(std::string_view op, Device device, std::string_view name = "");

}  // namespace kvass
