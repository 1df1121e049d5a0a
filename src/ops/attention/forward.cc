// attention and kv_cache_attention on the caller's tensors. Rows are processed in pieces that fit into the scratch: a
// piece is converted to float32, goes through ops/attention/attention.h, and its result is rounded once to the output.
#include <algorithm>

#include "base/float_env.h"
#include "kernels/functions64.h"
#include "ops/attention/attention.h"
#include "ops/attention/device.h"
#include "ops/attention/problem.h"
#include "ops/context.h"
#include "ops/views.h"

namespace kvass {
namespace {

constexpr int64_t kPieceFloats = int64_t{1} << 21;  // limit for q, and for the result, of a piece

// The scratch of one call.
struct Parts {
  int64_t rows;  // rows of a piece
  float* q;      // [rows][heads][padded_dim]
  float* q_sink;
  float* out;
  float* sums;             // [rows][heads][2]; null: no lse is wanted
  RowVisibility* visible;  // [rows]
  AttentionRun* runs;      // [batch]
  RowKeys* keys;           // [batch][2]: sink keys, other keys
  uint64_t* valid;         // [batch][sink_tiles + ring_tiles]
  uint8_t* tiles;
  uint8_t* attention;

  Parts(const AttentionProblem& p, const TileShape& shape, bool lse, int threads, Carver& carver) {
    const int64_t width = p.heads * p.padded_dim();
    rows = std::min(p.batch * p.queries, std::max<int64_t>(64, kPieceFloats / width));
    q = carver.take<float>(rows * width);
    q_sink = p.options.q_sink.data ? carver.take<float>(rows * width) : nullptr;
    out = carver.take<float>(rows * width);
    sums = lse ? carver.take<float>(rows * p.heads * 2) : nullptr;
    visible = carver.take<RowVisibility>(rows);
    runs = carver.take<AttentionRun>(p.batch);
    keys = carver.take<RowKeys>(2 * p.batch);
    const int64_t tiles_each = p.key_count / kTileKeys + 2;
    valid = p.options.key_padding_mask.data ? carver.take<uint64_t>(p.batch * tiles_each) : nullptr;
    tiles = carver.take<uint8_t>(threads * static_cast<int64_t>(shape.tile_bytes()));
    attention = carver.take<uint8_t>(
        static_cast<int64_t>(attention_scratch_bytes(rows, p.heads, p.kv_heads, p.padded_dim(), threads)));
  }
};

// Rows are counted over the whole batch: row `row` is query row % queries of batch row row / queries.
void load_rows(const AttentionProblem& p, const ConstTensor& from, int64_t begin, int64_t end, float* to,
               ThreadPool& pool) {
  const int64_t padded = p.padded_dim();
  pool.run(end - begin, [&](int64_t i, int) {
    const int64_t row = begin + i;
    for (int64_t h = 0; h < p.heads; ++h) {
      float* x = to + (i * p.heads + h) * padded;
      load_elements(element(from, row / p.queries, h, row % p.queries), from.dtype, from.strides[3], p.head_dim, x);
      std::fill(x + p.head_dim, x + padded, 0.0f);
    }
  });
}

void store_rows(const AttentionProblem& p, const float* from, int64_t begin, int64_t end, const Tensor& to,
                ThreadPool& pool) {
  pool.run(end - begin, [&](int64_t i, int) {
    const int64_t row = begin + i;
    for (int64_t h = 0; h < p.heads; ++h) {
      store_elements(from + (i * p.heads + h) * p.padded_dim(), p.head_dim, to.dtype, to.strides[3],
                     const_cast<uint8_t*>(element(to, row / p.queries, h, row % p.queries)));
    }
  });
}

// [B, Hq, Sq] = m + log(l); a row that sees no key has minus infinity.
void store_lse(const AttentionProblem& p, const float* sums, int64_t begin, int64_t end, const Tensor& to) {
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t h = 0; h < p.heads; ++h, sums += 2) {
      const float lse = sums[1] == 0.0f ? -__builtin_inff()
                                        : static_cast<float>(static_cast<double>(sums[0]) + log64(double{sums[1]}));
      store_elements(&lse, 1, DType::f32, 1, const_cast<uint8_t*>(element(to, row / p.queries, h, row % p.queries)));
    }
  }
}

// `lse`: no data if it is not wanted.
Status forward(OpContext& context, const AttentionProblem& p, const Tensor& out, const Tensor& lse) {
  KVASS_RETURN_IF_ERROR(check_context(context, p.op));
  OpContext::State& state = *context.state();
  const std::lock_guard lock(state.mutex);  // before the choice of kernels: a device's first call changes what is there
  if (p.q.device != Device::cpu) {
    if (lse.data) return unsupported(std::string(p.op) + ": lse", "tensors of the CPU", "a device's");
    return attention_on_device(state, p, out);
  }
  KVASS_ASSIGN_OR_RETURN(const Isa isa, state.kernels(p.op, p.q.device));
  const int64_t total = p.batch * p.queries;
  if (total == 0) return {};
  const TileShape shape{p.q.dtype, p.kv_heads, p.padded_dim()};

  ThreadPool& pool = state.pool;
  Carver count(nullptr);
  (void)Parts(p, shape, lse.data != nullptr, pool.threads(), count);
  KVASS_ASSIGN_OR_RETURN(uint8_t* const scratch, state.reserve(count.bytes()));
  Carver carver(scratch);
  const Parts parts(p, shape, lse.data != nullptr, pool.threads(), carver);
  const FloatEnvironment environment;

  const int64_t width = p.heads * p.padded_dim();
  AttentionArgs args;
  args.q = parts.q;
  args.q_sink = parts.q_sink;
  args.out = parts.out;
  args.sums = parts.sums;
  args.q_stride = args.out_stride = width;
  args.heads = p.heads;
  args.shape = shape;
  args.scale = p.scale;
  args.softcap = p.options.softcap;
  args.sink_logits = p.options.sink_logits.empty() ? nullptr : p.options.sink_logits.data();
  args.tile_scratch = parts.tiles;

  uint64_t* valid = parts.valid;
  for (int64_t b = 0; b < p.batch; ++b) {
    AttentionRun run;
    run.sink = {nullptr, p.sink_tiles(b), 0};
    run.body = {nullptr, p.ring_tiles(b), p.sinks(b)};
    parts.keys[2 * b] = p.row_keys(b, 0);
    parts.keys[2 * b + 1] = p.row_keys(b, p.sinks(b));
    run.sink_rows = parts.keys + 2 * b;
    run.body_rows = parts.keys + 2 * b + 1;
    if (valid) {
      p.valid_bits(b, 0, run.sink.tiles, valid);
      run.sink_valid = valid;
      valid += run.sink.tiles;
      p.valid_bits(b, p.sinks(b), run.body.tiles, valid);
      run.body_valid = valid;
      valid += run.body.tiles;
    }
    parts.runs[b] = run;
  }

  for (int64_t begin = 0; begin < total; begin += parts.rows) {
    const int64_t end = std::min(total, begin + parts.rows);
    const int64_t first_run = begin / p.queries;
    const int64_t last_run = (end - 1) / p.queries;
    for (int64_t row = begin; row < end; ++row) {
      parts.visible[row - begin] = p.visible(row / p.queries, row % p.queries);
    }
    for (int64_t b = first_run; b <= last_run; ++b) {
      AttentionRun& run = parts.runs[b];
      const int64_t first = std::max(begin, b * p.queries);
      run.first_row = first - begin;
      run.rows = std::min(end, (b + 1) * p.queries) - first;
      run.visible = parts.visible + run.first_row;
    }
    args.runs = {parts.runs + first_run, static_cast<size_t>(last_run - first_run + 1)};
    load_rows(p, p.q, begin, end, parts.q, pool);
    if (parts.q_sink) load_rows(p, p.options.q_sink, begin, end, parts.q_sink, pool);
    attention(args, parts.attention, pool, isa);
    store_rows(p, parts.out, begin, end, out, pool);
    if (parts.sums) store_lse(p, parts.sums, begin, end, lse);
  }
  return {};
}

Status run(OpContext& context, std::string_view op, const ConstTensor& q, const CachedKeys& keys, bool cache,
           const AttentionOptions& options, const Tensor& out, bool fp32, const Tensor& lse = {}) {
  KVASS_ASSIGN_OR_RETURN(const AttentionProblem p, attention_problem(op, q, keys, cache, options));
  KVASS_RETURN_IF_ERROR(check_output(p, "out", out, fp32 ? DType::f32 : q.dtype, fp32 ? "the float32 path" : "as q",
                                     {p.batch, p.heads, p.queries, p.head_dim}, "q's shape [B, Hq, Sq, D]"));
  if (lse.data || lse.rank != 0) {
    KVASS_RETURN_IF_ERROR(
        check_output(p, "lse", lse, DType::f32, "an lse", {p.batch, p.heads, p.queries}, "[B, Hq, Sq]"));
    if (overlap(lse, out)) return Argument{p.op, "lse", lse}.bad("memory apart from out", "some that overlaps it");
  }
  if (p.documents() == 0) return forward(context, p, out, lse);
  for (int64_t n = 0; n < p.documents(); ++n) {
    const AttentionProblem::Document document = p.document(n);
    KVASS_RETURN_IF_ERROR(
        forward(context, p.problem_of(document), document.rows_of_q(out), lse.data ? document.rows_of_q(lse) : lse));
  }
  return {};
}

}  // namespace

Status attention(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v, const AttentionOptions& options,
                 Tensor out) {
  return run(context, "attention", q, {{}, {}, k, v}, false, options, out, false);
}

Status attention_fp32(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v, const AttentionOptions& options,
                      Tensor out) {
  return run(context, "attention", q, {{}, {}, k, v}, false, options, out, true);
}

Status attention_with_lse(OpContext& context, ConstTensor q, ConstTensor k, ConstTensor v,
                          const AttentionOptions& options, Tensor out, Tensor lse) {
  if (!lse.data && lse.rank == 0) return bad_input("attention: lse", "[B, Hq, Sq]", "none");
  return run(context, "attention", q, {{}, {}, k, v}, false, options, out, out.dtype == DType::f32, lse);
}

Status kv_cache_attention(OpContext& context, ConstTensor q, const CachedKeys& keys, const AttentionOptions& options,
                          Tensor out) {
  return run(context, "kv_cache_attention", q, keys, true, options, out, false);
}

Status kv_cache_attention_fp32(OpContext& context, ConstTensor q, const CachedKeys& keys,
                               const AttentionOptions& options, Tensor out) {
  return run(context, "kv_cache_attention", q, keys, true, options, out, true);
}

}  // namespace kvass
