// attention_backward (kvass/ops.h). First the rows: statistics and dq; threads share the blocks of rows of a KV head.
// Then the keys: dk and dv; threads share the tiles. Both compute the scores again. The largest matrix of queries by
// keys is that of a block of rows.
#include <algorithm>
#include <vector>

#include "base/float_env.h"
#include "kernels/attention_gradient/attention_gradient.h"
#include "ops/attention/device.h"
#include "ops/attention/problem.h"
#include "ops/context.h"
#include "ops/views.h"

namespace kvass {
namespace {

constexpr int64_t kBlockRows = 48;
constexpr int64_t kBlockFloats = int64_t{1} << 21;  // limit for s, and for dp, of a block of rows

// The buffers of one thread.
struct Workspace {
  float* rows;     // [64][padded]
  float* rows2;    // [64][padded]
  float* columns;  // [padded][64]
  float* columns2;
  float* q;         // [kBlockRows][padded]; for keys [64][padded]
  float* dout;      // as q
  float* s;         // [tiles][block rows][64]; for keys p and g
  float* dp;        // as s
  uint64_t* masks;  // [tiles][block rows]; for keys [64]
  float* sums;      // [padded / 16][block rows][16]; for keys dk
  float* sums2;     // for keys dv
  float* logits;    // [block rows]
  float* dlse;      // [block rows]
  float* stats;     // [3][64]

  Workspace(int64_t padded, int64_t tiles, int64_t block_rows, Carver& carver) {
    const int64_t tile = kTileKeys * padded;
    const int64_t scores = std::max(tiles * block_rows, kTileKeys) * kTileKeys;
    rows = carver.take<float>(tile);
    rows2 = carver.take<float>(tile);
    columns = carver.take<float>(tile);
    columns2 = carver.take<float>(tile);
    q = carver.take<float>(tile);
    dout = carver.take<float>(tile);
    s = carver.take<float>(scores);
    dp = carver.take<float>(scores);
    masks = carver.take<uint64_t>(std::max(tiles * block_rows, kTileKeys));
    sums = carver.take<float>(tile);
    sums2 = carver.take<float>(tile);
    logits = carver.take<float>(kTileKeys);
    dlse = carver.take<float>(kTileKeys);
    stats = carver.take<float>(3 * kTileKeys);
  }
};

class Backward {
 public:
  Backward(const AttentionProblem& p, const ConstTensor& dout, const ConstTensor& dlse, const AttentionGradients& out,
           Isa isa, int threads)
      : p_(p),
        dout_(dout),
        dlse_(dlse),
        out_(out),
        kernels_(attention_gradient_for(isa)),
        group_(p.heads / p.kv_heads),
        padded_(p.padded_dim()),
        threads_(threads) {
    for (int64_t b = 0; b < p.batch; ++b) tiles_ = std::max(tiles_, p.sink_tiles(b) + p.ring_tiles(b));
    block_rows_ = std::clamp<int64_t>(kBlockFloats / (std::max<int64_t>(tiles_, 1) * kTileKeys), 1, kBlockRows);
  }

  void carve(Carver& carver) {
    stats_ = carver.take<GradientStats>(p_.batch * p_.heads * p_.queries);
    workspace_memory_ = carver.take<uint8_t>(threads_ * workspace_bytes());
  }

  void run(ThreadPool& pool) {
    const int64_t blocks = (p_.queries * group_ + block_rows_ - 1) / block_rows_;
    pool.run(p_.batch * p_.kv_heads * blocks, [&](int64_t task, int thread) {
      const int64_t head = task / blocks % p_.kv_heads;
      const int64_t b = task / blocks / p_.kv_heads;
      run_rows(b, head, (blocks - 1 - task % blocks) * block_rows_, workspace(thread));  // the longest come first
    });
    pool.run(p_.batch * p_.kv_heads * tiles_, [&](int64_t task, int thread) {
      const int64_t tile = task % tiles_;
      const int64_t b = task / tiles_ / p_.kv_heads;
      if (tile < p_.sink_tiles(b) + p_.ring_tiles(b)) run_keys(b, task / tiles_ % p_.kv_heads, tile, workspace(thread));
    });
    clear_padding(pool);
  }

 private:
  // A tile of batch row b: sink tiles first.
  struct Tile {
    int64_t first_key = 0;  // row of lane 0's key in k
    int64_t position = 0;   // position of lane 0
    int64_t keys = 0;       // number of lanes with a key
    bool sink = false;
  };
  Tile tile_at(int64_t b, int64_t index) const {
    Tile tile;
    tile.sink = index < p_.sink_tiles(b);
    tile.position = tile.sink ? index * kTileKeys : p_.sinks(b) + (index - p_.sink_tiles(b)) * kTileKeys;
    tile.first_key = p_.first(b) + tile.position;
    tile.keys = std::min(kTileKeys, (tile.sink ? p_.sinks(b) : p_.length(b)) - tile.position);
    return tile;
  }
  uint64_t valid(int64_t b, const Tile& tile) const {
    uint64_t bits = 0;
    for (int64_t lane = 0; lane < tile.keys; ++lane) {
      bits |= static_cast<uint64_t>(p_.valid(b, tile.first_key + lane)) << lane;
    }
    return bits;
  }
  // The keys of a tile that a query sees.
  uint64_t seen(int64_t b, int64_t query, const Tile& tile) const {
    const RowVisibility visible = p_.visible(b, query);
    const int64_t begin = std::max<int64_t>((tile.sink ? 0 : visible.begin) - tile.position, 0);
    const int64_t end = std::min((tile.sink ? visible.sink_end : visible.end) - tile.position, tile.keys);
    return begin < end ? (~uint64_t{0} >> (64 - (end - begin))) << begin : 0;
  }

  int64_t workspace_bytes() const {
    Carver carver(nullptr);
    (void)Workspace(padded_, tiles_, block_rows_, carver);
    return static_cast<int64_t>(carver.bytes());
  }
  Workspace workspace(int thread) const {
    Carver carver(workspace_memory_ + thread * workspace_bytes());
    return Workspace(padded_, tiles_, block_rows_, carver);
  }
  GradientStats* stats(int64_t b, int64_t kv_head) const {
    return stats_ + (b * p_.kv_heads + kv_head) * group_ * p_.queries;  // [queries][group]
  }

  void load_row(const ConstTensor& t, int64_t b, int64_t head, int64_t row, float* to) const {
    load_elements(element(t, b, head, row), t.dtype, t.strides[3], p_.head_dim, to);
    std::fill(to + p_.head_dim, to + padded_, 0.0f);
  }
  // Loads the rows of a tile, [64][padded], +0 for keys not in `lanes`; and as columns, [padded][64].
  void load_tile(const ConstTensor& t, int64_t b, int64_t head, int64_t first, uint64_t lanes, float* rows,
                 float* columns) const {
    const uint8_t* row_bytes[kTileKeys];
    for (int64_t lane = 0; lane < kTileKeys; ++lane) {
      float* row = rows + lane * padded_;
      row_bytes[lane] = reinterpret_cast<const uint8_t*>(row);
      if (lanes >> lane & 1) {
        load_row(t, b, head, first + lane, row);
      } else {
        std::fill(row, row + padded_, 0.0f);
      }
    }
    if (columns) transpose_rows(row_bytes, 1, 0, kTileKeys, padded_, DType::f32, columns);
  }

  void run_rows(int64_t b, int64_t kv_head, int64_t first_row, const Workspace& workspace);
  void run_keys(int64_t b, int64_t kv_head, int64_t tile, const Workspace& workspace);
  void clear_padding(ThreadPool& pool);
  void store(const float* sums, int64_t rows, int64_t i, const Tensor& to, int64_t b, int64_t head, int64_t row) const {
    float x[kAttentionMaxHeadDim];
    for (int64_t d = 0; d < padded_; ++d) x[d] = sums[(d / 16 * rows + i) * 16 + d % 16];
    store_elements(x, p_.head_dim, DType::f32, to.strides[3], const_cast<uint8_t*>(element(to, b, head, row)));
  }

  const AttentionProblem& p_;
  const ConstTensor& dout_;
  const ConstTensor& dlse_;  // no data: none
  const AttentionGradients& out_;
  GradientKernels kernels_;
  int64_t group_;
  int64_t padded_;
  int threads_;
  int64_t tiles_ = 0;  // largest number of tiles of a batch row
  int64_t block_rows_ = 1;
  GradientStats* stats_ = nullptr;
  uint8_t* workspace_memory_ = nullptr;
};

void Backward::run_rows(int64_t b, int64_t kv_head, int64_t first_row, const Workspace& workspace) {
  GradientRows rows;
  rows.rows = std::min(block_rows_, p_.queries * group_ - first_row);
  rows.tiles = p_.sink_tiles(b) + p_.ring_tiles(b);
  rows.head_dim = padded_;
  rows.q = workspace.q;
  rows.dout = workspace.dout;
  rows.scale = p_.scale;
  rows.softcap = p_.options.softcap;
  rows.masks = workspace.masks;
  rows.s = workspace.s;
  rows.dp = workspace.dp;
  rows.dq = workspace.sums;
  const auto query_of = [&](int64_t i) { return (first_row + i) / group_; };
  const auto head_of = [&](int64_t i) { return kv_head * group_ + (first_row + i) % group_; };
  for (int64_t i = 0; i < rows.rows; ++i) {
    load_row(p_.q, b, head_of(i), query_of(i), workspace.q + i * padded_);
    load_row(dout_, b, head_of(i), query_of(i), workspace.dout + i * padded_);
    if (!p_.options.sink_logits.empty()) {
      workspace.logits[i] = p_.options.sink_logits[static_cast<size_t>(head_of(i))];
      rows.sink_logits = workspace.logits;
    }
    if (dlse_.data) {
      load_elements(element(dlse_, b, head_of(i), query_of(i)), DType::f32, 1, 1, workspace.dlse + i);
      rows.dlse = workspace.dlse;
    }
  }
  std::fill(workspace.sums, workspace.sums + rows.rows * padded_, 0.0f);

  const auto seen_by_any = [&](int64_t tile) {
    uint64_t any = 0;
    for (int64_t i = 0; i < rows.rows; ++i) any |= workspace.masks[tile * rows.rows + i];
    return any;
  };
  for (int64_t index = 0; index < rows.tiles; ++index) {
    const Tile tile = tile_at(b, index);
    const uint64_t allowed = valid(b, tile);
    for (int64_t i = 0; i < rows.rows; ++i) {
      workspace.masks[index * rows.rows + i] = seen(b, query_of(i), tile) & allowed;
    }
    const uint64_t any = seen_by_any(index);
    if (any == 0) continue;
    load_tile(p_.keys.k_new, b, kv_head, tile.first_key, any, workspace.rows, workspace.columns);
    load_tile(p_.keys.v_new, b, kv_head, tile.first_key, any, workspace.rows, workspace.columns2);
    kernels_.scores(rows, index, workspace.columns, workspace.columns2);
  }
  kernels_.softmax(rows, stats(b, kv_head) + first_row);
  for (int64_t index = 0; index < rows.tiles; ++index) {
    const uint64_t any = seen_by_any(index);
    if (any == 0) continue;
    load_tile(p_.keys.k_new, b, kv_head, tile_at(b, index).first_key, any, workspace.rows, nullptr);
    kernels_.queries(rows, index, workspace.rows);
  }
  for (int64_t i = 0; i < rows.rows; ++i) store(workspace.sums, rows.rows, i, out_.dq, b, head_of(i), query_of(i));
}

void Backward::run_keys(int64_t b, int64_t kv_head, int64_t index, const Workspace& workspace) {
  const Tile tile = tile_at(b, index);
  const uint64_t allowed = valid(b, tile);
  GradientKeys keys;
  keys.head_dim = padded_;
  keys.k = workspace.rows;
  keys.v = workspace.rows2;
  keys.q = workspace.q;
  keys.dout = workspace.dout;
  keys.q_columns = workspace.columns;
  keys.dout_columns = workspace.columns2;
  keys.masks = workspace.masks;
  keys.m = workspace.stats;
  keys.r = workspace.stats + kTileKeys;
  keys.delta = workspace.stats + 2 * kTileKeys;
  keys.scale = p_.scale;
  keys.softcap = p_.options.softcap;
  keys.p = workspace.s;
  keys.g = workspace.dp;
  keys.dk = workspace.sums;
  keys.dv = workspace.sums2;
  load_tile(p_.keys.k_new, b, kv_head, tile.first_key, allowed, workspace.rows, nullptr);
  load_tile(p_.keys.v_new, b, kv_head, tile.first_key, allowed, workspace.rows2, nullptr);
  std::fill(workspace.sums, workspace.sums + kTileKeys * padded_, 0.0f);
  std::fill(workspace.sums2, workspace.sums2 + kTileKeys * padded_, 0.0f);

  for (int64_t h = 0; h < group_; ++h) {
    for (int64_t first = 0; first < p_.queries; first += kTileKeys) {
      const int64_t count = std::min(kTileKeys, p_.queries - first);
      std::fill(workspace.masks, workspace.masks + kTileKeys, uint64_t{0});
      uint64_t queries = 0;  // the queries that see a key of the tile
      for (int64_t i = 0; i < count; ++i) {
        uint64_t bits = seen(b, first + i, tile) & allowed;
        if (bits != 0) queries |= uint64_t{1} << i;
        for (; bits != 0; bits &= bits - 1) workspace.masks[__builtin_ctzll(bits)] |= uint64_t{1} << i;
      }
      if (queries == 0) continue;
      for (int64_t i = 0; i < kTileKeys; ++i) {
        const GradientStats row = queries >> i & 1 ? stats(b, kv_head)[(first + i) * group_ + h] : GradientStats{};
        workspace.stats[i] = row.m;
        workspace.stats[kTileKeys + i] = row.r;
        workspace.stats[2 * kTileKeys + i] = row.delta;
      }
      load_tile(p_.q, b, kv_head * group_ + h, first, queries, workspace.q, workspace.columns);
      load_tile(dout_, b, kv_head * group_ + h, first, queries, workspace.dout, workspace.columns2);
      kernels_.keys(keys);
    }
  }
  for (int64_t lane = 0; lane < tile.keys; ++lane) {
    store(workspace.sums, kTileKeys, lane, out_.dk, b, kv_head, tile.first_key + lane);
    store(workspace.sums2, kTileKeys, lane, out_.dv, b, kv_head, tile.first_key + lane);
  }
}

// Sets the gradients of keys before first_position to 0: they are in no tile.
void Backward::clear_padding(ThreadPool& pool) {
  const std::vector<float> zeros(static_cast<size_t>(p_.head_dim));
  pool.run(p_.batch * p_.kv_heads, [&](int64_t task, int) {
    const int64_t b = task / p_.kv_heads;
    for (int64_t key = 0; key < p_.first(b); ++key) {
      for (const Tensor* to : {&out_.dk, &out_.dv}) {
        store_elements(zeros.data(), p_.head_dim, DType::f32, to->strides[3],
                       const_cast<uint8_t*>(element(*to, b, task % p_.kv_heads, key)));
      }
    }
  });
}

Status check(const AttentionProblem& p, const ConstTensor& dout, const ConstTensor& dlse,
             const AttentionGradients& out) {
  const Argument cotangent{p.op, "dout", dout};
  KVASS_RETURN_IF_ERROR(cotangent.check_device(p.q.device));
  KVASS_RETURN_IF_ERROR(cotangent.check_shape({p.batch, p.heads, p.queries, p.head_dim}, "q's shape [B, Hq, Sq, D]"));
  if (dlse.data || dlse.rank != 0) {
    const Argument of_lse{p.op, "dlse", dlse};
    KVASS_RETURN_IF_ERROR(of_lse.check_device(p.q.device));
    KVASS_RETURN_IF_ERROR(of_lse.check_shape({p.batch, p.heads, p.queries}, "[B, Hq, Sq]"));
    KVASS_RETURN_IF_ERROR(of_lse.check_dtype(DType::f32, "an lse"));
  }
  if (p.options.q_sink.data) {
    return Argument{p.op, "q_sink", p.options.q_sink}.bad("none: it has no gradient here");
  }
  struct Output {
    std::string_view name;
    const Tensor& tensor;
    int64_t heads, rows;
    std::string_view form;
  };
  const Output outputs[] = {
      {"dq", out.dq, p.heads, p.queries, "q's shape [B, Hq, Sq, D]"},
      {"dk", out.dk, p.kv_heads, p.key_count, "k's shape [B, Hkv, Skv, D]"},
      {"dv", out.dv, p.kv_heads, p.key_count, "v's shape [B, Hkv, Skv, D]"},
  };
  for (const Output& one : outputs) {
    KVASS_RETURN_IF_ERROR(check_output(p, one.name, one.tensor, DType::f32, "gradients",
                                       {p.batch, one.heads, one.rows, p.head_dim}, one.form));
    const Argument argument{p.op, one.name, one.tensor};
    if (dlse.data && overlap(one.tensor, dlse)) {
      return argument.bad("memory apart from the inputs", "some that overlaps dlse");
    }
    if (overlap(one.tensor, dout)) return argument.bad("memory apart from the inputs", "some that overlaps dout");
    for (const Output& other : outputs) {
      if (&other == &one || !overlap(one.tensor, other.tensor)) continue;
      return argument.bad("memory apart from the other gradients", "some that overlaps " + std::string(other.name));
    }
  }
  return {};
}

Status backward(OpContext& context, const AttentionProblem& p, const ConstTensor& dout, const ConstTensor& dlse,
                const AttentionGradients& gradients) {
  KVASS_RETURN_IF_ERROR(check_context(context, p.op));
  OpContext::State& state = *context.state();
  const std::lock_guard lock(state.mutex);
  if (p.q.device != Device::cpu) {
    if (dlse.data) return unsupported(std::string(p.op) + ": dlse", "tensors of the CPU", "a device's");
    return attention_backward_on_device(state, p, dout, gradients);
  }
  KVASS_ASSIGN_OR_RETURN(const Isa isa, state.kernels(p.op, p.q.device));
  Backward backward(p, dout, dlse, gradients, isa, state.pool.threads());
  Carver count(nullptr);
  backward.carve(count);
  KVASS_ASSIGN_OR_RETURN(uint8_t* const scratch, state.reserve(count.bytes()));
  Carver carver(scratch);
  backward.carve(carver);
  const FloatEnvironment environment;
  backward.run(state.pool);
  return {};
}

}  // namespace

Status attention_backward(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor dout,
                          const AttentionOptions& options, const AttentionGradients& gradients, ConstTensor dlse) {
  KVASS_ASSIGN_OR_RETURN(const AttentionProblem p,
                         attention_problem("attention_backward", q, {{}, {}, k, v}, false, options));
  KVASS_RETURN_IF_ERROR(check(p, dout, dlse, gradients));
  if (p.documents() == 0) return backward(context, p, dout, dlse, gradients);
  for (int64_t n = 0; n < p.documents(); ++n) {
    const AttentionProblem::Document document = p.document(n);
    const AttentionGradients parts{document.rows_of_q(gradients.dq), document.rows_of_k(gradients.dk),
                                   document.rows_of_k(gradients.dv)};
    KVASS_RETURN_IF_ERROR(backward(context, p.problem_of(document), document.rows_of_q(dout),
                                   dlse.data ? document.rows_of_q(dlse) : dlse, parts));
  }
  return {};
}

}  // namespace kvass
