#include "ops/attention/problem.h"

#include <algorithm>
#include <cmath>

#include "ops/views.h"

namespace kvass {
namespace {

RowKeys::Strides strides_of(const ConstTensor& t) { return {t.strides[1], t.strides[2], t.strides[3]}; }

Status check_keys(const AttentionProblem& p, std::string_view name, const ConstTensor& t, int64_t rows,
                  std::string_view form) {
  const Argument argument{p.op, name, t};
  KVASS_RETURN_IF_ERROR(argument.check_device(p.q.device));
  KVASS_RETURN_IF_ERROR(argument.check_shape({p.batch, p.kv_heads, rows, p.head_dim}, form));
  return argument.check_dtype(p.q.dtype, "as q");
}

Status check_options(const AttentionProblem& p) {
  const AttentionOptions& o = p.options;
  const auto bad = [&](std::string_view name, std::string_view expected, const std::string& got) {
    return bad_input(std::string(p.op) + ": " + std::string(name), expected, got);
  };
  if (!std::isfinite(p.scale)) return bad("scale", "a finite number", std::to_string(p.scale));
  if (!std::isfinite(o.softcap) || o.softcap < 0.0f) {
    return bad("softcap", "a finite number of at least 0", std::to_string(o.softcap));
  }
  if (o.window < 0) return bad("window", "at least 0 keys", std::to_string(o.window));
  if (o.sinks < 0) return bad("sinks", "at least 0 keys", std::to_string(o.sinks));
  if (o.q_sink.data) {
    const Argument argument{p.op, "q_sink", o.q_sink};
    KVASS_RETURN_IF_ERROR(argument.check_device(p.q.device));
    KVASS_RETURN_IF_ERROR(argument.check_shape({p.batch, p.heads, p.queries, p.head_dim}, "q's shape [B, Hq, Sq, D]"));
    KVASS_RETURN_IF_ERROR(argument.check_dtype(p.q.dtype, "as q"));
  }
  const KeyPaddingMask& mask = o.key_padding_mask;
  if (mask.data && (mask.batch != p.batch || mask.keys != p.key_count)) {
    return bad("key_padding_mask", "[B, Skv] = [" + std::to_string(p.batch) + ", " + std::to_string(p.key_count) + "]",
               "[" + std::to_string(mask.batch) + ", " + std::to_string(mask.keys) + "]");
  }
  if (!o.first_position.empty()) {
    if (static_cast<int64_t>(o.first_position.size()) != p.batch) {
      return bad("first_position", "[B] = [" + std::to_string(p.batch) + "]",
                 "[" + std::to_string(o.first_position.size()) + "]");
    }
    for (const int64_t first : o.first_position) {
      if (first < 0 || first > p.key_count) {
        return bad("first_position", "0 to Skv = " + std::to_string(p.key_count), std::to_string(first));
      }
    }
  }
  if (!o.sink_logits.empty() && static_cast<int64_t>(o.sink_logits.size()) != p.heads) {
    return bad("sink_logits", "[Hq] = [" + std::to_string(p.heads) + "]",
               "[" + std::to_string(o.sink_logits.size()) + "]");
  }
  for (const float logit : o.sink_logits) {
    if (!std::isfinite(logit)) return bad("sink_logits", "finite numbers", std::to_string(logit));
  }
  if (o.window_right.value_or(0) < 0) {
    return bad("window_right", "at least 0 keys", std::to_string(*o.window_right));
  }
  if (o.attention_chunk < 0) return bad("attention_chunk", "at least 0 positions", std::to_string(o.attention_chunk));
  if (o.attention_chunk > 0 && o.sinks > 0) {
    return bad("sinks", "0 keys with attention_chunk", std::to_string(o.sinks));
  }
  return {};
}

// Offsets of documents in `rows` rows of each of `batch` batch rows.
Status check_offsets(std::string_view what, std::span<const int64_t> offsets, int64_t batch, int64_t rows) {
  const std::string expected = "offsets from 0 to " + std::to_string(batch * rows) + ", none below the one before it";
  if (offsets.size() < 2) return bad_input(what, expected, std::to_string(offsets.size()) + " numbers");
  if (offsets.front() != 0) return bad_input(what, expected, "a first one of " + std::to_string(offsets.front()));
  for (size_t i = 1; i < offsets.size(); ++i) {
    if (offsets[i] < offsets[i - 1]) {
      return bad_input(what, expected, std::to_string(offsets[i]) + " after " + std::to_string(offsets[i - 1]));
    }
  }
  if (offsets.back() != batch * rows) {
    return bad_input(what, expected, "a last one of " + std::to_string(offsets.back()));
  }
  return {};
}

Status check_documents(AttentionProblem& p, bool cache) {
  AttentionOptions& o = p.options;
  const std::string op(p.op);
  if (o.cu_seqlens_q.empty()) {
    if (o.cu_seqlens_k.empty()) return {};
    return bad_input(op + ": cu_seqlens_q", "offsets, as cu_seqlens_k", "none");
  }
  if (cache) return bad_input(op + ": cu_seqlens_q", "none with a cache", "some");
  if (!o.first_position.empty()) return bad_input(op + ": first_position", "none with cu_seqlens_q", "some");
  if (o.cu_seqlens_k.empty()) {
    if (p.queries != p.key_count) {
      return bad_input(op + ": cu_seqlens_k", "offsets, because Sq and Skv differ", "none");
    }
    o.cu_seqlens_k = o.cu_seqlens_q;
  }
  KVASS_RETURN_IF_ERROR(check_offsets(op + ": cu_seqlens_q", o.cu_seqlens_q, p.batch, p.queries));
  KVASS_RETURN_IF_ERROR(check_offsets(op + ": cu_seqlens_k", o.cu_seqlens_k, p.batch, p.key_count));
  if (o.cu_seqlens_q.size() != o.cu_seqlens_k.size()) {
    return bad_input(op + ": cu_seqlens_k", std::to_string(o.cu_seqlens_q.size()) + " offsets, as cu_seqlens_q",
                     std::to_string(o.cu_seqlens_k.size()));
  }
  for (int64_t n = 0; n < p.documents(); ++n) {
    const AttentionProblem::Document d = p.document(n);
    const bool inside = d.query + d.queries <= p.queries && d.key + d.keys <= p.key_count;
    const bool apart =
        d.queries > 0 && d.keys > 0 &&
        o.cu_seqlens_q[static_cast<size_t>(n)] / p.queries != o.cu_seqlens_k[static_cast<size_t>(n)] / p.key_count;
    if (!inside || apart) {
      return bad_input(op + ": cu_seqlens_q", "documents that lie in one batch row each",
                       "document " + std::to_string(n) + " in two");
    }
  }
  return {};
}

}  // namespace

int64_t AttentionProblem::sinks(int64_t b) const { return std::min(options.sinks, length(b)); }

RowVisibility AttentionProblem::visible(int64_t b, int64_t query) const {
  constexpr int64_t kEverything = int64_t{1} << 60;
  const int64_t position = length(b) - queries + query;
  const int64_t window = options.window == 0 ? kEverything : std::min(options.window, kEverything);
  const int64_t right = options.causal ? 0 : std::min(options.window_right.value_or(kEverything), kEverything);
  int64_t end = std::clamp<int64_t>(position + right + 1, 0, length(b));
  int64_t begin = position - window + 1;
  if (options.attention_chunk > 0) {
    const int64_t chunk = std::max<int64_t>(position, 0) / options.attention_chunk * options.attention_chunk;
    begin = std::max(begin, chunk);
    end = position < 0 ? 0 : std::min(end, chunk + std::min(options.attention_chunk, kEverything));
  }
  RowVisibility row;
  row.sink_end = std::min(sinks(b), end);
  row.begin = std::max(sinks(b), begin);
  row.end = std::max(row.begin, end);
  return row;
}

RowKeys AttentionProblem::row_keys(int64_t b, int64_t origin) const {
  const auto part = [&](const ConstTensor& k, const ConstTensor& v, int64_t rows) -> RowKeys::Part {
    if (rows == 0) return {};
    return {element(k, b, 0, 0), element(v, b, 0, 0), strides_of(k), strides_of(v), rows};
  };
  RowKeys result;
  result.parts[0] = part(keys.k_cache, keys.v_cache, cached);
  result.parts[1] = part(keys.k_new, keys.v_new, key_count - cached);
  result.dtype = q.dtype;
  result.head_dim = head_dim;
  result.padded_dim = padded_dim();
  result.first_row = first(b) + origin;
  return result;
}

void AttentionProblem::valid_bits(int64_t b, int64_t origin, int64_t tiles, uint64_t* words) const {
  const int64_t first_key = first(b) + origin;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    uint64_t bits = 0;
    for (int64_t lane = 0; lane < kTileKeys; ++lane) {
      const int64_t key = first_key + tile * kTileKeys + lane;
      if (key < key_count && valid(b, key)) bits |= uint64_t{1} << lane;
    }
    words[tile] = bits;
  }
}

int64_t AttentionProblem::documents() const {
  return options.cu_seqlens_q.empty() ? 0 : static_cast<int64_t>(options.cu_seqlens_q.size()) - 1;
}

AttentionProblem::Document AttentionProblem::document(int64_t n) const {
  const int64_t* q = options.cu_seqlens_q.data() + n;
  const int64_t* k = options.cu_seqlens_k.data() + n;
  Document d;
  d.queries = q[1] - q[0];
  d.keys = k[1] - k[0];
  // A document without queries is found by its keys; one without either is in any row.
  if (d.queries > 0) {
    d.b = q[0] / queries;
  } else if (d.keys > 0) {
    d.b = k[0] / key_count;
  }
  d.query = d.queries > 0 ? q[0] - d.b * queries : 0;
  d.key = d.keys > 0 ? k[0] - d.b * key_count : 0;
  return d;
}

AttentionProblem AttentionProblem::problem_of(const Document& d) const {
  AttentionProblem one = *this;
  one.q = d.rows_of_q(q);
  one.keys.k_new = d.rows_of_k(keys.k_new);
  one.keys.v_new = d.rows_of_k(keys.v_new);
  one.batch = 1;
  one.queries = d.queries;
  one.key_count = d.keys;
  one.options.cu_seqlens_q = one.options.cu_seqlens_k = {};
  if (options.q_sink.data) one.options.q_sink = d.rows_of_q(options.q_sink);
  KeyPaddingMask& mask = one.options.key_padding_mask;
  if (mask.data) {
    mask.data += d.b * mask.batch_stride + d.key * mask.key_stride;
    mask.batch = 1;
    mask.keys = d.keys;
  }
  return one;
}

Result<AttentionProblem> attention_problem(std::string_view op, const ConstTensor& q, const CachedKeys& keys,
                                           bool cache, const AttentionOptions& options) {
  AttentionProblem p;
  p.op = op;
  p.q = q;
  p.keys = keys;
  p.options = options;
  const Argument query{op, "q", q};
  const std::string_view k_name = cache ? "k_new" : "k";
  const Argument key{op, k_name, keys.k_new};
  KVASS_RETURN_IF_ERROR(query.check(4));
  KVASS_RETURN_IF_ERROR(key.check(4));
  p.batch = q.shape[0];
  p.heads = q.shape[1];
  p.queries = q.shape[2];
  p.head_dim = q.shape[3];
  if (p.head_dim < 1 || p.head_dim > kAttentionMaxHeadDim) {
    return query.bad("[B, Hq, Sq, D] with D from 1 to " + std::to_string(kAttentionMaxHeadDim));
  }
  p.kv_heads = keys.k_new.shape[1];
  if (p.heads < 1) return query.bad("[B, Hq, Sq, D] with at least one head");
  if (p.kv_heads < 1 || p.heads % p.kv_heads != 0) {
    return key.bad("[B, Hkv, Skv, D] whose Hkv divides Hq = " + std::to_string(p.heads),
                   shape_text(keys.k_new) + ", and " + std::to_string(p.heads) + " is not divisible by " +
                       std::to_string(p.kv_heads));
  }
  const int64_t new_keys = keys.k_new.shape[2];
  if (cache && new_keys != p.queries) {
    return bad_input(std::string(op) + ": q and k_new", "as many rows of q as of k_new",
                     std::to_string(p.queries) + " rows of q " + shape_text(q) + " and " + std::to_string(new_keys) +
                         " of k_new " + shape_text(keys.k_new));
  }
  const std::string_view form = cache ? "[B, Hkv, Sq, D]" : "[B, Hkv, Skv, D]";
  KVASS_RETURN_IF_ERROR(check_keys(p, k_name, keys.k_new, new_keys, form));
  KVASS_RETURN_IF_ERROR(check_keys(p, cache ? "v_new" : "v", keys.v_new, new_keys, form));
  if (cache) {
    const Argument cached{op, "k_cache", keys.k_cache};
    KVASS_RETURN_IF_ERROR(cached.check(4));
    p.cached = keys.k_cache.shape[2];
    KVASS_RETURN_IF_ERROR(check_keys(p, "k_cache", keys.k_cache, p.cached, "[B, Hkv, C, D]"));
    KVASS_RETURN_IF_ERROR(check_keys(p, "v_cache", keys.v_cache, p.cached, "[B, Hkv, C, D]"));
  }
  p.key_count = p.cached + new_keys;
  p.scale = options.scale.value_or(1.0f / std::sqrt(static_cast<float>(p.head_dim)));
  KVASS_RETURN_IF_ERROR(check_options(p));
  KVASS_RETURN_IF_ERROR(check_documents(p, cache));
  return p;
}

Status check_output(const AttentionProblem& p, std::string_view name, const Tensor& out, DType dtype,
                    std::string_view of, std::initializer_list<int64_t> sizes, std::string_view form) {
  const Argument argument{p.op, name, out};
  KVASS_RETURN_IF_ERROR(argument.check_device(p.q.device));
  KVASS_RETURN_IF_ERROR(argument.check_shape(sizes, form));
  KVASS_RETURN_IF_ERROR(argument.check_dtype(dtype, of));
  if (overlaps_itself(out)) return argument.bad("elements that do not overlap", "strides that make them");
  const KeyPaddingMask& mask = p.options.key_padding_mask;
  const auto offsets = [](std::span<const int64_t> of) {
    return bytes_view(of.data(), 1, static_cast<int64_t>(of.size_bytes()), 0, 1);
  };
  const std::pair<std::string_view, ConstTensor> inputs[] = {
      {"q", p.q},
      {"q_sink", p.options.q_sink},
      {p.cached > 0 ? "k_new" : "k", p.keys.k_new},
      {p.cached > 0 ? "v_new" : "v", p.keys.v_new},
      {"k_cache", p.keys.k_cache},
      {"v_cache", p.keys.v_cache},
      {"key_padding_mask", bytes_view(mask.data, mask.batch, mask.keys, mask.batch_stride, mask.key_stride)},
      {"first_position", offsets(p.options.first_position)},
      {"cu_seqlens_q", offsets(p.options.cu_seqlens_q)},
      {"cu_seqlens_k", offsets(p.options.cu_seqlens_k)},
      {"sink_logits",
       bytes_view(p.options.sink_logits.data(), 1, static_cast<int64_t>(p.options.sink_logits.size_bytes()), 0, 1)},
  };
  for (const auto& [other, view] : inputs) {
    if (!overlap(out, view)) continue;
    return argument.bad("memory apart from the inputs",
                        shape_text(out) + " that overlaps " + std::string(other) + " " + shape_text(view));
  }
  return {};
}

}  // namespace kvass
