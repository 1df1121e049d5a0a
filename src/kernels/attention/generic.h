// attention_block and attention_merge over a lane set V. Rows are computed in micro blocks of up to six, which share
// every load of a key. With few rows the loops read the cache's tiles directly. With many rows a tile is first expanded
// to float32 panels (vectors of 16 keys [head_dim][16], of 16 channels [64][16]) that fit into the first-level cache.
// Included by *_<isa>.cc with their V; everything here, and everything it calls, has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/block_scratch.h"
#include "kernels/attention/masks.h"
#include "kernels/attention/merge.h"
#include "kernels/attention/micro.h"
#include "kernels/attention/softmax.h"

namespace kvass {
namespace {

// From this number of rows on, a tile is expanded once instead of converted by every micro block.
constexpr int64_t kExpandRows = 13;

// Computes the spans of one block of rows.
template <class V, class S, int kAccumulators>
class Walk {
  using T = typename S::T;

 public:
  explicit Walk(const AttentionBlock& block)
      : block_(block),
        at_(block),
        rows_(block.rows),
        head_dim_(block.head_dim),
        vectors_(block.head_dim / 16),
        micros_(block.rows) {}

  void run(int64_t begin, int64_t end, float* partials) {
    for (int64_t i = 0; i < 2 * rows_; ++i) at_.state[i] = 0.0f;
    for (int64_t span = begin; span < end; ++span) {
      if (span == begin || span == block_.sink_spans) enter_segment(span < block_.sink_spans);
      run_span(span < block_.sink_spans ? span : block_.body_first_span + span - block_.sink_spans);
      if (partials) {
        store_partials(partials + (span - begin) * rows_ * attention_partial_floats(head_dim_));
        continue;
      }
      for (int64_t i = 0; i < rows_; ++i) {
        merge_span<V>(at_.m[i], V::reduce_add(V::load(at_.l + i * 16)), at_.o + i * 16, rows_ * 16, head_dim_,
                      at_.state + 2 * i, out_row(block_, i));
      }
    }
    if (partials) return;
    for (int64_t i = 0; i < rows_; ++i) finish_row<V>(block_, i, at_.state + 2 * i);
  }

 private:
  // Sets the visible offsets of every row, and rotates its query for the keys of this segment.
  void enter_segment(bool in_sink) {
    segment_ = in_sink ? &block_.sink : &block_.body;
    const bool own_angles = in_sink && block_.sink_cos;
    const float* cos = own_angles ? block_.sink_cos : block_.cos;
    const float* sin = own_angles ? block_.sink_sin : block_.sin;
    highest_low_ = 0;
    lowest_high_ = INT64_MAX;
    for (int64_t i = 0; i < rows_; ++i) {
      const int64_t row = block_.first_row + i;
      const int64_t query = row / block_.group;
      const RowVisibility& visible = block_.visible[query];
      at_.low[i] = in_sink ? 0 : larger(visible.begin - segment_->origin, 0);
      at_.high[i] = (in_sink ? visible.sink_end : visible.end) - segment_->origin;
      highest_low_ = larger(highest_low_, at_.low[i]);
      lowest_high_ = smaller(lowest_high_, at_.high[i]);
      const float* queries = in_sink && block_.q_sink ? block_.q_sink : block_.q;
      const float* x = queries + query * block_.q_stride + row % block_.group * head_dim_;
      float* q = at_.q + i * head_dim_;
      if (cos) {
        block_.rotate(x, cos + query * (head_dim_ / 2), sin + query * (head_dim_ / 2), q, 1, head_dim_);
      } else {
        for (int64_t d = 0; d < head_dim_; d += 16) V::store(q + d, V::load(x + d));
      }
      if constexpr (kIsQ8<T>) QueryQ8::make<V>(q, head_dim_);
    }
  }

  void run_span(int64_t span) {
    for (int64_t i = 0; i < rows_; ++i) at_.m[i] = -__builtin_inff();
    for (int64_t i = 0; i < rows_ * 16; i += 16) V::store(at_.l + i, V::zero());
    for (int64_t i = 0; i < rows_ * head_dim_; i += 16) V::store(at_.o + i, V::zero());
    const int64_t tiles = kSpanKeys / kTileKeys;
    for (int64_t tile = span * tiles; tile < (span + 1) * tiles; ++tile) run_tile(tile);
  }

  void store_partials(float* partial) {
    for (int64_t i = 0; i < rows_; ++i, partial += attention_partial_floats(head_dim_)) {
      partial[0] = at_.m[i];
      partial[1] = V::reduce_add(V::load(at_.l + i * 16));
      float* o = partial + kAttentionPartialPad;
      for (int64_t c = 0; c < vectors_; ++c) V::store(o + c * 16, V::load(at_.o + (c * rows_ + i) * 16));
    }
  }

  void run_tile(int64_t tile) {
    const uint64_t valid = segment_->valid ? segment_->valid[tile % segment_->tiles] : ~uint64_t{0};
    const uint64_t any = look(tile * kTileKeys, valid);
    if (any == 0) return;
    const AttentionTile at = attention_tile(block_, *segment_, tile, any);
    const T* k = static_cast<const T*>(at.k);
    const T* v = static_cast<const T*>(at.v);
    constexpr bool kQ8 = kIsQ8<T>;
    value_scales_ = kQ8 ? reinterpret_cast<const float*>(v + head_dim_ * kTileKeys) : nullptr;
    const int64_t key_bytes = static_cast<int64_t>(TileShape{block_.dtype, 1, head_dim_}.key_bytes());
    const KeyView<T> keys{k,        kQ8 ? 4 * kTileKeys : kTileKeys, kQ8 ? 4 * 16 : 16, block_.scale, at.ahead_of_v,
                          key_bytes};
    if (rows_ >= kExpandRows) {
      expand_values<V, S>(v, at.v_stride, any, head_dim_, at_.values);
      const ValueView<float> values{at_.values, 16, 16 * kTileKeys, nullptr};
      const int step = vectors_for(kMicroRows, kAccumulators);
      if constexpr (kQ8) {
        attend<S, StoredF32<V>>(keys, values, step);
      } else {
        expand_keys<V, S>(k, any, head_dim_, at_.keys);
        attend<StoredF32<V>, StoredF32<V>>({at_.keys, 16, 16 * head_dim_, 0.0f, nullptr, 0}, values, step);
      }
    } else {
      attend<S, S>(keys, {v, at.v_stride, 16, at.ahead_of_k}, static_cast<int>(larger(vectors_, 4)));
    }
  }

  // Sets the masks of the tile at offset `first`; returns the keys that some row sees.
  uint64_t look(int64_t first, uint64_t valid) {
    if (highest_low_ <= first && first + kTileKeys <= lowest_high_ && valid == ~uint64_t{0}) {
      if (!all_seen_) {
        for (int64_t i = 0; i < rows_; ++i) at_.mask[i] = ~uint64_t{0};
        for (int64_t i = 0; i < micros_.count; ++i) at_.joined[i] = {~uint64_t{0}, ~uint64_t{0}};
        all_seen_ = true;
      }
      return ~uint64_t{0};
    }
    all_seen_ = false;
    uint64_t any = 0;
    for (int64_t i = 0; i < rows_; ++i) {
      at_.mask[i] = tile_mask(at_.low[i], at_.high[i], first) & valid;
      any |= at_.mask[i];
    }
    for (int64_t i = 0; any != 0 && i < micros_.count; ++i) {
      at_.joined[i] = join_masks(at_.mask + micros_.begin(i), micros_.begin(i + 1) - micros_.begin(i));
    }
    return any;
  }

  // Scores, softmax and values of one tile. All micro blocks go through `step` vectors of keys or channels before the
  // next ones.
  template <class KeySource, class ValueSource>
  void attend(KeyView<typename KeySource::T> keys, ValueView<typename ValueSource::T> values, int step) {
    using Scores = Micro<V, KeySource, kAccumulators>;
    using Values = Micro<V, ValueSource, kAccumulators>;
    for (int c = 0; c < 4; c += step) {
      for (int64_t micro = 0; micro < micros_.count; ++micro) {
        if (at_.joined[micro].seen == 0) continue;
        const int64_t first = micros_.begin(micro);
        Scores::score[micros_.begin(micro + 1) - first](keys, c, static_cast<int>(smaller(c + step, 4)),
                                                        at_.joined[micro].seen, at_.q + first * head_dim_, head_dim_,
                                                        at_.s + first * 64);
        keys.ahead = nullptr;  // prefetch once
      }
    }
    const float scale = kIsQ8<T> ? 1.0f : block_.scale;
    for (int64_t i = 0; i < rows_; ++i) {
      at_.factor[i] = 1.0f;
      if (at_.mask[i] == 0) continue;
      const auto weigh = at_.mask[i] == ~uint64_t{0} ? &weigh_tile<V, true> : &weigh_tile<V, false>;
      at_.factor[i] = weigh(at_.s + i * 64, at_.mask[i], scale, block_.softcap, at_.m + i, at_.l + i * 16);
      if constexpr (kIsQ8<T>) scale_weights<V>(at_.s + i * 64, value_scales_);
    }

    for (int64_t c = 0; c < vectors_; c += step) {
      for (int64_t micro = 0; micro < micros_.count; ++micro) {
        const uint64_t mask = at_.joined[micro].common;
        if (mask == 0) continue;
        const int64_t first = micros_.begin(micro);
        Values::value[micros_.begin(micro + 1) - first](values, c, smaller(c + step, vectors_), at_.s + first * 64,
                                                        __builtin_ctzll(mask), kTileKeys - __builtin_clzll(mask),
                                                        at_.factor + first, at_.o + first * 16, rows_ * 16);
        values.ahead = nullptr;
      }
    }
    values.ahead = nullptr;
    for (int64_t micro = 0; micro < micros_.count; ++micro) {
      if (at_.joined[micro].seen == 0 || at_.joined[micro].common != 0) continue;
      const int64_t first = micros_.begin(micro);
      add_ragged<Values>(values, first, micros_.begin(micro + 1) - first);
    }
  }

  // For rows of a micro block that see different keys: goes, ascending, through ranges of keys that the same rows see.
  // A key is added to a row only if the row sees it: 0 · NaN would be NaN, and a zero may change its sign.
  template <class Loops, class View>
  void add_ragged(const View& view, int64_t first, int64_t count) {
    constexpr float kNoFactor[kMicroRows] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    const int64_t o_stride = rows_ * 16;
    uint64_t any = 0;
    uint64_t edges = 0;
    for (int64_t i = first; i < first + count; ++i) {
      any |= at_.mask[i];
      edges |= at_.mask[i] ^ at_.mask[i] << 1;
      if (at_.factor[i] != 1.0f)
        Loops::value[1](view, 0, vectors_, at_.s + i * 64, 0, 0, at_.factor + i, at_.o + i * 16, o_stride);
    }
    while (any != 0) {
      const auto [begin, end] = next_range(any, edges);
      int64_t seeing = 0;
      for (int64_t i = first; i < first + count; ++i) seeing += static_cast<int64_t>(at_.mask[i] >> begin & 1);
      if (seeing == count) {
        Loops::value[count](view, 0, vectors_, at_.s + first * 64, begin, end, kNoFactor, at_.o + first * 16, o_stride);
        continue;
      }
      for (int64_t i = first; i < first + count; ++i) {
        if ((at_.mask[i] >> begin & 1) == 0) continue;
        Loops::value[1](view, 0, vectors_, at_.s + i * 64, begin, end, kNoFactor, at_.o + i * 16, o_stride);
      }
    }
  }

  const AttentionBlock& block_;
  const BlockScratch at_;
  const AttentionKeys* segment_ = nullptr;
  int64_t rows_;
  int64_t head_dim_;
  int64_t vectors_;  // vectors of 16 channels
  MicroBlocks micros_;
  int64_t highest_low_ = 0;  // the largest `low` of the rows
  int64_t lowest_high_ = 0;
  bool all_seen_ = false;                // every row saw every key of the last tile
  const float* value_scales_ = nullptr;  // [64] scales of this tile's values; q8
};

template <class V, int kAccumulators>
void run_block(const AttentionBlock& block, int64_t begin, int64_t end, float* partials) {
  switch (block.dtype) {
    case DType::f32:
      return Walk<V, StoredF32<V>, kAccumulators>(block).run(begin, end, partials);
    case DType::f16:
      return Walk<V, StoredF16<V>, kAccumulators>(block).run(begin, end, partials);
    case DType::bf16:
      return Walk<V, StoredBf16<V>, kAccumulators>(block).run(begin, end, partials);
    case DType::q8:
      return Walk<V, StoredQ8<V>, kAccumulators>(block).run(begin, end, partials);
  }
}

}  // namespace
}  // namespace kvass
