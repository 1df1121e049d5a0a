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
  return {};
}

}  // namespace

int64_t AttentionProblem::sinks(int64_t b) const { return std::min(options.sinks, length(b)); }

RowVisibility AttentionProblem::visible(int64_t b, int64_t query) const {
  constexpr int64_t kEverything = int64_t{1} << 60;
  const int64_t position = length(b) - queries + query;
  const int64_t end = options.causal ? std::max<int64_t>(position + 1, 0) : length(b);
  const int64_t window = options.window == 0 ? kEverything : std::min(options.window, kEverything);
  RowVisibility row;
  row.sink_end = std::min(sinks(b), end);
  row.begin = std::max(sinks(b), position - window + 1);
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
    return key.bad("[B, Hkv, Skv, D] whose Hkv divides Hq = " + std::to_string(p.heads));
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
  const std::pair<std::string_view, ConstTensor> inputs[] = {
      {"q", p.q},
      {"q_sink", p.options.q_sink},
      {p.cached > 0 ? "k_new" : "k", p.keys.k_new},
      {p.cached > 0 ? "v_new" : "v", p.keys.v_new},
      {"k_cache", p.keys.k_cache},
      {"v_cache", p.keys.v_cache},
      {"key_padding_mask", bytes_view(mask.data, mask.batch, mask.keys, mask.batch_stride, mask.key_stride)},
      {"first_position", bytes_view(p.options.first_position.data(), 1,
                                    static_cast<int64_t>(p.options.first_position.size_bytes()), 0, 1)},
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
