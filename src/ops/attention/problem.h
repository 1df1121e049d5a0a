// A public attention call after its checks: sizes, the places of the keys, and the keys that a row sees, in positions
// of the sequence. Key j of batch row b has position j − first_position[b]; the bits depend on this position. Owns
// nothing.
#pragma once

#include <string_view>

#include "kvass/ops.h"
#include "ops/attention/row_keys.h"

namespace kvass {

struct AttentionProblem {
  std::string_view op;
  ConstTensor q;
  CachedKeys keys;  // for plain attention the cache has 0 rows
  AttentionOptions options;
  int64_t batch = 0, heads = 0, kv_heads = 0, queries = 0, cached = 0, head_dim = 0;
  int64_t key_count = 0;  // cached and new keys
  float scale = 0.0f;

  int64_t padded_dim() const { return (head_dim + 15) / 16 * 16; }
  int64_t first(int64_t b) const {
    return options.first_position.empty() ? 0 : options.first_position[static_cast<size_t>(b)];
  }
  int64_t length(int64_t b) const { return key_count - first(b); }  // number of positions of the sequence
  int64_t sinks(int64_t b) const;                                   // at most the length
  int64_t sink_tiles(int64_t b) const { return (sinks(b) + kTileKeys - 1) / kTileKeys; }
  int64_t ring_tiles(int64_t b) const { return (length(b) - sinks(b) + kTileKeys - 1) / kTileKeys; }
  RowVisibility visible(int64_t b, int64_t query) const;
  bool valid(int64_t b, int64_t key) const {  // not padding
    const KeyPaddingMask& mask = options.key_padding_mask;
    return !mask.data || mask.data[b * mask.batch_stride + key * mask.key_stride] != 0;
  }
  // The keys of batch row b whose tiles begin at position `origin`: 0 or sinks(b).
  RowKeys row_keys(int64_t b, int64_t origin) const;
  // Writes `words` [tiles], bit = lane of those tiles: the key is valid.
  void valid_bits(int64_t b, int64_t origin, int64_t tiles, uint64_t* words) const;

  // Packed documents (AttentionOptions.cu_seqlens_q): 0 if the call has none.
  struct Document {
    int64_t b = 0;  // batch row
    int64_t query = 0, queries = 0, key = 0, keys = 0;
    // The document's part of a tensor of the call whose rows are queries or keys.
    template <class View>
    View rows_of_q(const View& t) const {
      return t.slice(0, b, b + 1).slice(2, query, query + queries);
    }
    template <class View>
    View rows_of_k(const View& t) const {
      return t.slice(0, b, b + 1).slice(2, key, key + keys);
    }
  };
  int64_t documents() const;
  Document document(int64_t n) const;
  AttentionProblem problem_of(const Document& document) const;
};

// Makes every check of the operator's contract except those of its outputs, which check_output makes. `cache`:
// keys.k_cache and v_cache are given.
Result<AttentionProblem> attention_problem(std::string_view op, const ConstTensor& q, const CachedKeys& keys,
                                           bool cache, const AttentionOptions& options);
Status check_output(const AttentionProblem& problem, std::string_view name, const Tensor& out, DType dtype,
                    std::string_view of, std::initializer_list<int64_t> sizes, std::string_view form);

}  // namespace kvass
