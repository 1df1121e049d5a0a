// attention_gradient on a device. For dq a block of threads computes a few rows together and keeps their scores in its
// workspace. For dk and dv a block has sixteen keys and goes through the heads of their group and all queries.
#include "device/code.h"
#include "kernels/attention/cuda_rows.h"
#include "kernels/attention_gradient/device.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kRows = static_cast<int>(kDeviceGradientRows);
constexpr int kTile = static_cast<int>(kTileKeys);
constexpr int kKeys = 16;  // keys of a block in gradient_keys
constexpr int kThreads = 256;

KVASS_DEVICE_FN int padded_of(const DeviceAttentionParams& p) { return static_cast<int>((p.head_dim + 15) / 16 * 16); }

KVASS_DEVICE_FN float score_of(const DeviceAttentionParams& p, float chain) {
  const float s = mul_rn(chain, p.scale);
  return p.softcap != 0.0f ? kvass::softcap<D>(s, p.softcap) : s;
}

KVASS_DEVICE_FN float gradient_of(const DeviceAttentionParams& p, float weight, float dp, float delta, float s) {
  float g = mul_rn(weight, sub_rn(dp, delta));
  if (p.softcap != 0.0f) {
    const float t = div_rn(s, p.softcap);
    g = mul_rn(g, fma_rn(-t, t, 1.0f));
  }
  return mul_rn(g, p.scale);
}

// A tile of a run: sink tiles first.
struct Tile {
  Segment segment;
  bool in_sink;
  int64_t offset;  // offset of lane 0 in the segment
  int64_t key;     // row of lane 0's key
  int64_t keys;    // number of lanes with a key; 0 or less: no such tile
};
KVASS_DEVICE_FN Tile tile_at(const DeviceAttentionParams& p, const Item& item, int64_t index) {
  const int64_t sinks = sinks_of(p, item.run);
  const int64_t sink_tiles = (sinks + kTile - 1) / kTile;
  Tile tile;
  tile.in_sink = index < sink_tiles;
  tile.segment = segment_of(p, item, tile.in_sink, 0);
  tile.offset = (tile.in_sink ? index : index - sink_tiles) * kTile;
  tile.key = tile.segment.first_key + tile.offset;
  const int64_t end = tile.in_sink ? sinks : p.keys.keys - first_position(p, item.run) - sinks;
  tile.keys = lesser(kTile, end - tile.offset);
  return tile;
}

KVASS_DEVICE_FN bool sees(const DeviceAttentionParams& p, const Item& item, const Tile& tile, const Seen& seen,
                          int lane) {
  const int64_t offset = tile.offset + lane;
  return lane < tile.keys && offset >= seen.low && offset < seen.high && valid_key(p, tile.segment, item.run, offset);
}

// Folds the sixteen lanes of a half warp (docs/numerics.md, 3); all lanes of a warp must call.
KVASS_DEVICE_FN float fold(float lane) {
  for (int by = 8; by >= 1; by /= 2) lane = add_rn(lane, shuffle_down(lane, by, 16));
  return lane;
}

KVASS_DEVICE_FN float* stats_of(const DeviceGradientParams& params, const Item& item, int64_t row) {
  const DeviceAttentionParams& p = params.p;
  const int64_t group = p.heads / p.kv_heads;
  const int64_t head = item.kv_head * group + row % group;
  return params.stats + ((item.run * p.heads + head) * p.keys.queries + row / group) * 3;
}

// The rows of one item, with a workspace.
struct RowBlock {
  const DeviceGradientParams& params;
  const DeviceAttentionParams& p;
  const Item item;
  const int padded;
  float *q, *dout;       // [kRows][padded], shared
  float *m, *r, *delta;  // [kRows], shared
  float *s, *dp;         // [kRows][tiles · 64], in the workspace
  uint64_t* masks;       // [kRows][tiles], in the workspace
  int64_t tiles;

  KVASS_METHOD int64_t at(int row, int64_t tile) const { return (row * params.tiles + tile) * kTile; }

  KVASS_METHOD void load() const {
    const int warp = thread_index() / 32, lane = thread_index() % 32;
    for (int row = warp; row < kRows; row += kThreads / 32) {
      const int64_t from = element_of(p, params.dout, item, item.first + (row < item.rows ? row : 0));
      load_query(p, item, item.first + (row < item.rows ? row : 0), false, padded, lane, 32, q + row * padded);
      for (int d = lane; d < padded; d += 32) {
        const bool there = d < p.head_dim;
        dout[row * padded + d] =
            there ? load_element(params.dout.data, params.dout.dtype, from + d * params.dout.channel) : 0.0f;
      }
    }
  }

  // Computes masks, s and dp. A thread has one key of the tile and the rows ≡ group mod groups.
  KVASS_METHOD void score() const {
    const int key = thread_index() % kTile, group = thread_index() / kTile;
    constexpr int kGroups = kThreads / kTile;
    for (int64_t t = 0; t < tiles; ++t) {
      const Tile tile = tile_at(p, item, t);
      bool any = false;
      bool seen[kRows / kGroups];
      KVASS_UNROLL
      for (int i = 0; i < kRows / kGroups; ++i) {
        const int row = group + i * kGroups;
        const Seen range = seen_of(p, item, tile.segment, item.first + (row < item.rows ? row : 0), tile.in_sink);
        seen[i] = row < item.rows && sees(p, item, tile, range, key);
        any = any || seen[i];
        const uint32_t bits = ballot(seen[i]);
        // Two warps each write half of the word.
        if (key % 32 == 0) reinterpret_cast<uint32_t*>(masks + row * params.tiles + t)[key / 32] = bits;
      }
      if (!any) continue;
      const int64_t es = p.dtype == DType::f32 ? 4 : 2;
      const uint8_t* k = key_row(p.keys, p.keys.k, item.run, item.kv_head, tile.key + key, es);
      const uint8_t* v = key_row(p.keys, p.keys.v, item.run, item.kv_head, tile.key + key, es);
      float sum[kRows / kGroups] = {}, dot[kRows / kGroups] = {};
      for (int d = 0; d < p.head_dim; ++d) {
        const float x = load_element(k, p.dtype, d * p.keys.k[1].channel);
        const float y = load_element(v, p.dtype, d * p.keys.v[1].channel);
        KVASS_UNROLL
        for (int i = 0; i < kRows / kGroups; ++i) {
          sum[i] = fma_rn(q[(group + i * kGroups) * padded + d], x, sum[i]);
          dot[i] = fma_rn(dout[(group + i * kGroups) * padded + d], y, dot[i]);
        }
      }
      KVASS_UNROLL
      for (int i = 0; i < kRows / kGroups; ++i) {
        const int row = group + i * kGroups;
        if (!seen[i]) continue;
        s[at(row, t) + key] = score_of(p, sum[i]);
        dp[at(row, t) + key] = dot[i];
      }
    }
  }

  // Computes m, r and delta of every row, with half a warp for each; then g, in place of s.
  KVASS_METHOD void softmax() const {
    const int row = thread_index() / 16, lane = thread_index() % 16;
    if (thread_index() < 16 * kRows) {
      const uint64_t* mask = masks + row * params.tiles;
      float top = -__builtin_inff();
      for (int64_t t = 0; t < tiles; ++t) {
        for (int j = lane; j < kTile; j += 16) {
          if ((mask[t] >> j & 1) == 0) continue;
          const float x = s[at(row, t) + j];
          top = top < x ? x : top;
        }
      }
      for (int by = 8; by >= 1; by /= 2) {
        const float other = shuffle_xor(top, by, 16);
        top = top < other ? other : top;
      }
      bool empty = true;
      for (int64_t t = 0; t < tiles; ++t) empty = empty && mask[t] == 0;
      const int64_t group = p.heads / p.kv_heads;
      const int64_t head = item.kv_head * group + (item.first + row) % group;
      const float logit = p.sink_logits && row < item.rows ? p.sink_logits[head] : 0.0f;
      if (p.sink_logits) top = top < logit ? logit : top;

      float l = 0.0f;
      for (int64_t t = 0; t < tiles; ++t) {
        for (int j = lane; j < kTile; j += 16) {
          if ((mask[t] >> j & 1) != 0) l = add_rn(l, kvass::exp<D>(sub_rn(s[at(row, t) + j], top)));
        }
      }
      float sum = shuffle(fold(l), 0, 16);
      if (p.sink_logits) sum = add_rn(sum, kvass::exp<D>(sub_rn(logit, top)));
      const float inverse = div_rn(1.0f, sum);
      float products = 0.0f;
      for (int64_t t = 0; t < tiles; ++t) {
        for (int j = lane; j < kTile; j += 16) {
          if ((mask[t] >> j & 1) == 0) continue;
          const float weight = mul_rn(kvass::exp<D>(sub_rn(s[at(row, t) + j], top)), inverse);
          products = fma_rn(weight, dp[at(row, t) + j], products);
        }
      }
      products = fold(products);
      if (lane == 0) {
        m[row] = empty ? 0.0f : top;
        r[row] = empty ? 0.0f : inverse;
        delta[row] = empty ? 0.0f : products;
        if (row < item.rows) {
          float* stats = stats_of(params, item, item.first + row);
          stats[0] = m[row];
          stats[1] = r[row];
          stats[2] = delta[row];
        }
      }
    }
    barrier();
    for (int64_t i = thread_index(); i < kRows * tiles * kTile; i += kThreads) {
      const int of = static_cast<int>(i / kTile % kRows);
      const int64_t t = i / kTile / kRows;
      const int j = static_cast<int>(i % kTile);
      if ((masks[of * params.tiles + t] >> j & 1) == 0) continue;
      float& x = s[at(of, t) + j];
      const float weight = mul_rn(kvass::exp<D>(sub_rn(x, m[of])), r[of]);
      x = gradient_of(p, weight, dp[at(of, t) + j], delta[of], x);
    }
  }

  // Computes dq. A thread has one channel, and the channel 256 after it.
  KVASS_METHOD void queries() const {
    const int64_t es = p.dtype == DType::f32 ? 4 : 2;
    for (int d = thread_index(); d < p.head_dim; d += kThreads) {
      float sum[kRows] = {};
      for (int64_t t = 0; t < tiles; ++t) {
        uint64_t any = 0;
        for (int row = 0; row < kRows; ++row) any |= masks[row * params.tiles + t];
        if (any == 0) continue;
        const Tile tile = tile_at(p, item, t);
        for (int j = 0; j < kTile; ++j) {
          if ((any >> j & 1) == 0) continue;
          const uint8_t* k = key_row(p.keys, p.keys.k, item.run, item.kv_head, tile.key + j, es);
          const float x = load_element(k, p.dtype, d * p.keys.k[1].channel);
          KVASS_UNROLL
          for (int row = 0; row < kRows; ++row) {
            if ((masks[row * params.tiles + t] >> j & 1) != 0) sum[row] = fma_rn(s[at(row, t) + j], x, sum[row]);
          }
        }
      }
      for (int row = 0; row < item.rows; ++row) {
        const int64_t to = element_of(p, params.dq, item, item.first + row) + d * params.dq.channel;
        static_cast<float*>(params.dq.data)[to] = sum[row];
      }
    }
  }
};

KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) gradient_rows(const DeviceGradientParams params) {
  const DeviceAttentionParams& p = params.p;
  const int padded = padded_of(p);
  const int64_t blocks = (p.keys.queries * (p.heads / p.kv_heads) + kRows - 1) / kRows;
  float* shared = reinterpret_cast<float*>(shared_memory());
  const int64_t cells = kRows * params.tiles;
  float* workspace =
      reinterpret_cast<float*>(params.workspaces + block_x() * ((cells * (2 * kTile * 4 + 8) + 63) / 64 * 64));
  for (int64_t index = block_x(); index < blocks * p.kv_heads * p.run_count; index += grid_x()) {
    const Item item = item_at(p, index, blocks, kRows);
    const int64_t sinks = sinks_of(p, item.run);
    const int64_t others = p.keys.keys - first_position(p, item.run) - sinks;
    float* stats = shared + 2 * kRows * padded;
    const RowBlock block{params,
                         p,
                         item,
                         padded,
                         shared,
                         shared + kRows * padded,
                         stats,
                         stats + kRows,
                         stats + 2 * kRows,
                         workspace,
                         workspace + cells * kTile,
                         reinterpret_cast<uint64_t*>(workspace + 2 * cells * kTile),
                         (sinks + kTile - 1) / kTile + (others + kTile - 1) / kTile};
    block.load();
    barrier();
    block.score();
    barrier();
    block.softmax();
    barrier();
    block.queries();
    barrier();  // before the next rows use the workspace
  }
}

// dk and dv of sixteen keys.
KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) gradient_keys(const DeviceGradientParams params) {
  const DeviceAttentionParams& p = params.p;
  const int padded = padded_of(p);
  constexpr int kParts = kTile / kKeys;
  Item item{block_y() / p.kv_heads, block_y() % p.kv_heads, 0, 0};
  const Tile tile = tile_at(p, item, block_x() / kParts);
  const int first = static_cast<int>(block_x() % kParts) * kKeys;  // lane of the tile
  const int count = static_cast<int>(lesser(kKeys, tile.keys - first));
  if (count <= 0) return;

  float* k = reinterpret_cast<float*>(shared_memory());              // [kKeys][padded]
  float* v = k + kKeys * padded;                                     // [kKeys][padded]
  float* weight = v + kKeys * padded;                                // [kKeys][64 queries]
  float* g = weight + kKeys * kTile;                                 // [kKeys][64 queries]
  uint64_t* masks = reinterpret_cast<uint64_t*>(g + kKeys * kTile);  // [kKeys] bit = query: it sees the key
  const int64_t es = p.dtype == DType::f32 ? 4 : 2;
  for (int i = thread_index(); i < kKeys * padded; i += kThreads) {
    const int key = i / padded, d = i % padded;
    const bool there = key < count && d < p.head_dim && valid_key(p, tile.segment, item.run, tile.offset + first + key);
    const int64_t row = tile.key + first + key;
    k[i] = there ? load_element(key_row(p.keys, p.keys.k, item.run, item.kv_head, row, es), p.dtype,
                                d * p.keys.k[1].channel)
                 : 0.0f;
    v[i] = there ? load_element(key_row(p.keys, p.keys.v, item.run, item.kv_head, row, es), p.dtype,
                                d * p.keys.v[1].channel)
                 : 0.0f;
  }
  const int64_t group = p.heads / p.kv_heads;
  float dk[kKeys][2] = {}, dv[kKeys][2] = {};
  for (int64_t h = 0; h < group; ++h) {
    for (int64_t from = 0; from < p.keys.queries; from += kTile) {
      const int queries = static_cast<int>(lesser(kTile, p.keys.queries - from));
      barrier();
      if (thread_index() < kKeys) masks[thread_index()] = 0;
      barrier();
      // A thread has one query and the keys ≡ part mod parts, and computes their whole chains over the channels.
      const int query = thread_index() % kTile, part = thread_index() / kTile;
      constexpr int kEach = kKeys / (kThreads / kTile);
      const int64_t row = (from + (query < queries ? query : 0)) * group + h;
      const Seen range = seen_of(p, item, tile.segment, row, tile.in_sink);
      bool seen[kEach];
      bool any = false;
      KVASS_UNROLL
      for (int i = 0; i < kEach; ++i) {
        const int key = part + i * (kThreads / kTile);
        seen[i] = query < queries && key < count && sees(p, item, tile, range, first + key);
        any = any || seen[i];
        const uint32_t bits = ballot(seen[i]);
        if (query % 32 == 0) reinterpret_cast<uint32_t*>(masks + key)[query / 32] = bits;
      }
      if (any) {
        const int64_t q_at = element_of(p, p.q, item, row), dout_at = element_of(p, params.dout, item, row);
        float sum[kEach] = {}, dot[kEach] = {};
        for (int d = 0; d < p.head_dim; ++d) {
          const float x = load_element(p.q.data, p.q.dtype, q_at + d * p.q.channel);
          const float y = load_element(params.dout.data, params.dout.dtype, dout_at + d * params.dout.channel);
          KVASS_UNROLL
          for (int i = 0; i < kEach; ++i) {
            const int key = part + i * (kThreads / kTile);
            sum[i] = fma_rn(x, k[key * padded + d], sum[i]);
            dot[i] = fma_rn(y, v[key * padded + d], dot[i]);
          }
        }
        const float* stats = stats_of(params, item, row);
        KVASS_UNROLL
        for (int i = 0; i < kEach; ++i) {
          const int key = part + i * (kThreads / kTile);
          if (!seen[i]) continue;
          const float s = score_of(p, sum[i]);
          const float w = mul_rn(kvass::exp<D>(sub_rn(s, stats[0])), stats[1]);
          weight[key * kTile + query] = w;
          g[key * kTile + query] = gradient_of(p, w, dot[i], stats[2], s);
        }
      }
      barrier();
      KVASS_UNROLL
      for (int c = 0; c < 2; ++c) {
        const int d = thread_index() + c * kThreads;
        if (d >= p.head_dim) continue;
        for (int i = 0; i < queries; ++i) {
          uint64_t some = 0;
          for (int key = 0; key < kKeys; ++key) some |= masks[key] >> i & 1;
          if (some == 0) continue;
          const int64_t at = (from + i) * group + h;
          const float x = load_element(p.q.data, p.q.dtype, element_of(p, p.q, item, at) + d * p.q.channel);
          const float y = load_element(params.dout.data, params.dout.dtype,
                                       element_of(p, params.dout, item, at) + d * params.dout.channel);
          KVASS_UNROLL
          for (int key = 0; key < kKeys; ++key) {
            if ((masks[key] >> i & 1) == 0) continue;
            dv[key][c] = fma_rn(weight[key * kTile + i], y, dv[key][c]);
            dk[key][c] = fma_rn(g[key * kTile + i], x, dk[key][c]);
          }
        }
      }
    }
  }
  KVASS_UNROLL
  for (int c = 0; c < 2; ++c) {
    const int d = thread_index() + c * kThreads;
    if (d >= p.head_dim) continue;
    KVASS_UNROLL
    for (int key = 0; key < kKeys; ++key) {
      if (key >= count) continue;
      const int64_t row = tile.key + first + key;
      const auto at = [&](const DeviceRows<void>& to) {
        return item.run * to.run + item.kv_head * to.head + row * to.row + d * to.channel;
      };
      static_cast<float*>(params.dk.data)[at(params.dk)] = dk[key][c];
      static_cast<float*>(params.dv.data)[at(params.dv)] = dv[key][c];
    }
  }
}

// Sets the gradients of keys before the first position to 0: they are in no tile.
KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) clear_padding(const DeviceGradientParams params) {
  const DeviceAttentionParams& p = params.p;
  const int64_t run = block_y() / p.kv_heads, head = block_y() % p.kv_heads;
  if (block_x() >= first_position(p, run)) return;
  for (const DeviceRows<void>* to : {&params.dk, &params.dv}) {
    for (int d = thread_index(); d < p.head_dim; d += kThreads) {
      static_cast<float*>(to->data)[run * to->run + head * to->head + block_x() * to->row + d * to->channel] = 0.0f;
    }
  }
}

}  // namespace

Status attention_gradient(const DeviceGradientParams& params, DeviceStream stream) {
  const DeviceAttentionParams& p = params.p;
  if (p.run_count == 0) return {};
  const size_t padded = static_cast<size_t>((p.head_dim + 15) / 16 * 16);
  const int64_t heads = p.run_count * p.kv_heads;
  if (heads > 65535)
    return Status::error(StatusCode::unsupported,
                         "attention_backward: more than 65,535 KV heads of a batch on a device");
  const int64_t blocks = (p.keys.queries * (p.heads / p.kv_heads) + kRows - 1) / kRows * heads;
  const size_t row_bytes = (2 * kRows * padded + 3 * kRows) * sizeof(float);
  KVASS_RETURN_IF_ERROR(launch(&gradient_rows, "attention_gradient_rows",
                               {blocks < params.workspace_count ? blocks : params.workspace_count}, kThreads, row_bytes,
                               stream, params));
  const size_t key_bytes = (2 * kKeys * padded + 2 * kKeys * kTile) * sizeof(float) + kKeys * sizeof(uint64_t);
  KVASS_RETURN_IF_ERROR(launch(&gradient_keys, "attention_gradient_keys", {params.tiles * (kTile / kKeys), heads},
                               kThreads, key_bytes, stream, params));
  if (!p.keys.first_position) return {};
  return launch(&clear_padding, "attention_gradient_padding", {p.keys.keys, heads}, kThreads, 0, stream, params);
}

}  // namespace kvass::KVASS_DEVICE
