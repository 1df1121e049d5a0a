// Gradients of attention (docs/numerics.md, 8): the inner loops of ops/attention/backward.cc. Not the operator: nothing
// is checked, divided among threads or allocated. Everything is float32; keys come in tiles of 64 counted from the
// origins of attention (docs/numerics.md, 6), sink tiles first.
//
// For each row (query i, head h), over the keys that it sees, ascending:
//     s = cap(chain(q, k) · scale)         m = max s, and the head's sink logit if there is one
//     l[lane mod 16] += exp(s − m), lanes folded (docs/numerics.md, 3), then + exp(logit − m)         r = 1 / l
//     p = exp(s − m) · r                   dp = chain(dout, v)
//     Δ[lane mod 16] = fma(p, dp, Δ), lanes folded
//     g = p · (dp − Δ), with a soft-cap · (1 − (s/cap)²) = fnma(t, t, 1) with t = s/cap, then · scale
//     dq = fma(g, k, dq)
// For each key, over the heads of its group, then the rows that see it, ascending:
//     dv = fma(p, dout, dv)                dk = fma(g, q, dk)
#pragma once

#include <cstdint>

#include "kernels/dispatch.h"
#include "kvass/tiles.h"

namespace kvass {

// The numbers from which a row's p and g are computed, together with its scores.
struct GradientStats {
  float m = 0.0f;
  float r = 0.0f;  // 0 for a row that sees no key
  float delta = 0.0f;
};

// Rows, and all tiles that at least one of them may see.
struct GradientRows {
  int64_t rows = 0;
  int64_t tiles = 0;
  int64_t head_dim = 0;                // a multiple of 16
  const float* q = nullptr;            // [rows][head_dim]
  const float* dout = nullptr;         // [rows][head_dim]
  const float* sink_logits = nullptr;  // [rows] or null
  const float* dlse = nullptr;         // [rows] or null: subtracted from Δ
  float scale = 1.0f;
  float softcap = 0.0f;
  const uint64_t* masks = nullptr;  // [tiles][rows] bit = lane: the row sees the key
  float* s = nullptr;               // [tiles][rows][64] scores; after `softmax`, g
  float* dp = nullptr;              // [tiles][rows][64]
  float* dq = nullptr;              // [head_dim / 16][rows][16]
};

// Queries of one head, and one tile of keys.
struct GradientKeys {
  int64_t head_dim = 0;
  const float* k = nullptr;             // [64][head_dim]
  const float* v = nullptr;             // [64][head_dim]
  const float* q = nullptr;             // [64 queries][head_dim]
  const float* dout = nullptr;          // [64 queries][head_dim]
  const float* q_columns = nullptr;     // [head_dim][64 queries]
  const float* dout_columns = nullptr;  // [head_dim][64 queries]
  const uint64_t* masks = nullptr;      // [64 keys] bit = query: it sees the key
  const float* m = nullptr;             // [64 queries], as are r and delta
  const float* r = nullptr;
  const float* delta = nullptr;
  float scale = 1.0f;
  float softcap = 0.0f;
  float* p = nullptr;   // [64 keys][64 queries] scratch
  float* g = nullptr;   // [64 keys][64 queries] scratch
  float* dk = nullptr;  // [head_dim / 16][64 keys][16]
  float* dv = nullptr;  // [head_dim / 16][64 keys][16]
};

struct GradientKernels {
  // Computes s and dp of tile t; keys and values as columns, [head_dim][64].
  void (*scores)(const GradientRows& rows, int64_t tile, const float* k_columns, const float* v_columns);
  // Computes every row's stats [rows] and g, over all tiles.
  void (*softmax)(const GradientRows& rows, GradientStats* stats);
  // Adds tile t to dq; keys [64][head_dim].
  void (*queries)(const GradientRows& rows, int64_t tile, const float* k);
  // Adds the queries to dk and dv.
  void (*keys)(const GradientKeys& keys);
};
KVASS_DECLARE_KERNEL(GradientKernels, attention_gradient)

}  // namespace kvass
