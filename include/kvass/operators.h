/* The attention operators on strided tensors, from C: what ops.h is to C++, with the same bits and the same refusals.
 * docs/operators has their contracts, docs/numerics.md the order of their arithmetic.
 *
 * Errors, structs with a struct_size, and who owns what are as kvass.h says. Everything is checked before the first
 * byte is written, no input is modified, and nothing is allocated for the caller. Messages name operator and argument:
 *     attention: window: expected at least 0 keys, got -1
 * A null pointer, a wrong rank, size, dtype or device, an option out of its range and an output that overlaps an input
 * are KVASS_BAD_INPUT; what is not implemented on a device is KVASS_UNSUPPORTED, a device that fails KVASS_DEVICE.
 *
 * All tensors of a call, and the padding mask, are in the memory of one device; lists of options are in the CPU's. They
 * are read during the call alone, and those of a device until its work of the call is done.
 *
 * Letters: B batch, Hq query heads, Hkv key heads (Hq a multiple of Hkv), Sq queries, Skv keys, D head size (1 … 512).
 */
#ifndef KVASS_OPERATORS_H
#define KVASS_OPERATORS_H

#include "kvass/kvass.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Tensors ---- */

/* Element types of a tensor, which must be said: 0 is none. */
enum { KVASS_DTYPE_F32 = 1, KVASS_DTYPE_F16 = 2, KVASS_DTYPE_BF16 = 3 };

enum { KVASS_MAX_RANK = 4 };

/* A view: it owns nothing, and a copy of the struct is the same tensor (C needs no `alias`). Only the first `rank`
 * entries of shape and strides are used. Strides of what is read may have any value: 0 repeats an element, a negative
 * stride goes backwards. Elements of what is written may not share memory. It has no struct_size, as it never grows. */
typedef struct kvass_tensor {
  void* data;       /* address of element (0, …, 0), aligned to its elements; of inputs it is only read */
  int32_t dtype;    /* KVASS_DTYPE_… */
  int32_t device;   /* KVASS_DEVICE_…: whose memory it is */
  int32_t rank;     /* at most KVASS_MAX_RANK */
  int32_t reserved; /* 0 */
  int64_t shape[KVASS_MAX_RANK];   /* elements */
  int64_t strides[KVASS_MAX_RANK]; /* elements from an index to the next */
} kvass_tensor;

/* A row-major tensor without gaps in the CPU's memory: shape[rank]. It checks nothing: what is wrong is refused by the
 * operator that gets it. */
KVASS_API kvass_tensor kvass_row_major(const void* data, int32_t dtype, int32_t rank, const int64_t* shape);

/* ---- Contexts ---- */

/* Threads, scratch and the choice of backends. Any number of threads may call: calls through one context run one after
 * another, those of several contexts side by side. Results do not depend on it. A call allocates only if it needs more
 * scratch than any before. */
typedef struct kvass_op_context kvass_op_context;

typedef struct kvass_op_context_options {
  size_t struct_size;
  int32_t threads;      /* 0: one for each CPU that the process may use */
  const char* backends; /* "operator=backend,…" (kvass inspect --ops); overrides the environment variable KVASS_BACKEND
                         * of the same form; NULL: none. All backends of the CPU give the same bits */
} kvass_op_context_options;

/* `options` may be NULL, here and below. */
KVASS_API kvass_code kvass_op_context_new(const kvass_op_context_options* options, kvass_op_context** context);
KVASS_API void kvass_op_context_free(kvass_op_context* context); /* once no call runs; NULL is fine */
/* The device stream (cudaStream_t, hipStream_t) of later calls on tensors of a device; NULL: the device's default
 * stream, as at first. A call launches its kernels there and returns; docs/gpu.md. */
KVASS_API kvass_code kvass_op_context_set_stream(kvass_op_context* context, void* stream);

/* ---- Attention ---- */

/* Which keys are valid: [B, Skv], a byte each, 0 = padding, in memory of q's device. */
typedef struct kvass_key_padding_mask {
  const uint8_t* data;
  int64_t batch;        /* B */
  int64_t keys;         /* Skv */
  int64_t batch_stride; /* bytes from a batch row to the next: `keys` where there are no gaps */
  int64_t key_stride;   /* bytes from a key to the next: 1 where there are no gaps */
} kvass_key_padding_mask;

/* Query row i has position p = Skv − Sq + i. It sees key j if
 *     (not_causal or j <= p) and (no window or p − j < window or j − first < sinks) and first <= j and the mask has j
 *     and (no window_right or j − p <= window_right) and (no attention_chunk or j and p are in the same chunk)
 * with first = first_position[b], the start of the sequence: keys before it are left padding. Chunk n of the sequence
 * is positions first + n · attention_chunk and the attention_chunk − 1 after it.
 *
 * Packed documents: with cu_seqlens the rows of q and the keys are those of N documents one after another, and each
 * document is attended to as if it were a call of its own (same bits). Document n is query rows [cu_seqlens_q[n],
 * cu_seqlens_q[n + 1]) and keys [cu_seqlens_k[n], cu_seqlens_k[n + 1]), counted over all batch rows, one batch row
 * after another; a document lies in one batch row. Not with first_position, nor with a cache.
 *
 * A list that is given has elements: a pointer with a count of 0 is refused. */
typedef struct kvass_attention_options {
  size_t struct_size;
  const float* scale;         /* of scores, finite; NULL: 1/√D */
  float softcap;              /* scores become softcap · tanh(score / softcap); 0: no cap */
  int32_t not_causal;         /* not 0: a row sees keys after its own position too */
  int64_t window;             /* number of latest keys that a row sees, its own included; 0: all */
  int64_t sinks;              /* first keys of the sequence, which stay visible outside the window */
  const kvass_tensor* q_sink; /* [B, Hq, Sq, D] of q's dtype: the query rotated for sink keys; NULL: q */
  const kvass_key_padding_mask* key_padding_mask; /* NULL: every key is valid */
  const int64_t* first_position;                  /* [B]: 0 to Skv; NULL: 0 */
  size_t first_position_count;                    /* B */
  const float* sink_logits;    /* [Hq], finite: exp(logit) is added to the head's softmax denominator; NULL: none */
  size_t sink_logit_count;     /* Hq */
  const int64_t* window_right; /* number of keys after its own position that a row sees; NULL: no limit */
  int64_t attention_chunk;     /* positions of a chunk; 0: no chunks. Without sinks only */
  const int64_t* cu_seqlens_q; /* [N + 1] from 0 to B · Sq, none below the one before it; NULL: no documents */
  size_t cu_seqlens_q_count;   /* N + 1 */
  const int64_t* cu_seqlens_k; /* [N + 1] from 0 to B · Skv; NULL: cu_seqlens_q, if Skv = Sq */
  size_t cu_seqlens_k_count;   /* N + 1 */
} kvass_attention_options;

/* out[b, h, i] = Σ_j softmax_j(cap(q[b, h, i] · k[b, h / (Hq / Hkv), j] · scale)) v[b, h / (Hq / Hkv), j]; a row that
 * sees no key is exactly +0.
 * q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D], all of one dtype; out [B, Hq, Sq, D] of that dtype, to which the float32
 * result is rounded once, or float32.
 * lse [B, Hq, Sq], float32, on the CPU: the logarithm of each row's softmax denominator, sink logits included; minus
 * infinity for a row that sees no key. NULL: not wanted.
 * Source: Vaswani et al., arXiv 1706.03762; docs/operators/attention.md. */
KVASS_API kvass_code kvass_attention(kvass_op_context* context, const kvass_tensor* q, const kvass_tensor* k,
                                     const kvass_tensor* v, const kvass_attention_options* options,
                                     const kvass_tensor* out, const kvass_tensor* lse);

/* Attention over the cached keys followed by the new keys, Skv = C + Sq: nothing is concatenated, and the cache is not
 * changed. out is as above; no packed documents. Source: docs/operators/kv_cache_attention.md. */
typedef struct kvass_cached_keys {
  kvass_tensor k_cache, v_cache; /* [B, Hkv, C, D]; C may be 0 */
  kvass_tensor k_new, v_new;     /* [B, Hkv, Sq, D]: as many rows as q */
} kvass_cached_keys;
KVASS_API kvass_code kvass_kv_cache_attention(kvass_op_context* context, const kvass_tensor* q,
                                              const kvass_cached_keys* keys, const kvass_attention_options* options,
                                              const kvass_tensor* out);

/* Gradients of Σ dout · out + Σ dlse · lse, in float32. dout [B, Hq, Sq, D] in any dtype; dlse [B, Hq, Sq], float32, on
 * the CPU, or NULL: 0. A key that no row sees has gradient +0. q_sink is refused; sink logits get no gradient.
 * Source: Dao et al., arXiv 2205.14135, appendix B; docs/operators/attention_backward.md. */
typedef struct kvass_attention_gradients {
  kvass_tensor dq;     /* [B, Hq, Sq, D], float32 */
  kvass_tensor dk, dv; /* [B, Hkv, Skv, D], float32 */
} kvass_attention_gradients;
KVASS_API kvass_code kvass_attention_backward(kvass_op_context* context, const kvass_tensor* q, const kvass_tensor* k,
                                              const kvass_tensor* v, const kvass_tensor* dout, const kvass_tensor* dlse,
                                              const kvass_attention_options* options,
                                              const kvass_attention_gradients* gradients);

/* The attention over all keys from the attentions over parts of them, in order: outs[count] of [B, Hq, Sq, D] in one
 * dtype, lses[count] of [B, Hq, Sq] in float32. out [B, Hq, Sq, D] in float32 or of their dtype; lse [B, Hq, Sq] in
 * float32. A part with an lse of minus infinity adds nothing; sink logits belong to one part only. On the CPU.
 * Source: docs/numerics.md, 6; docs/operators/attention.md. */
KVASS_API kvass_code kvass_merge_attention(kvass_op_context* context, const kvass_tensor* outs,
                                           const kvass_tensor* lses, size_t count, const kvass_tensor* out,
                                           const kvass_tensor* lse);

/* Copies value [B, H, S, D] into cache[:, :, :S] of cache [B, H, S_max, D], of one dtype; the rest of the cache is not
 * changed. Source: docs/operators/update_cross_attn_cache.md. */
KVASS_API kvass_code kvass_update_cross_attn_cache(kvass_op_context* context, const kvass_tensor* value,
                                                   const kvass_tensor* cache);

#ifdef __cplusplus
}
#endif

#endif
