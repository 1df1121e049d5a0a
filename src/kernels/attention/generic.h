// attention_block and attention_merge over a lane set V: rows in micro blocks of up to six that share every load of a
// key. A block of few rows reads the cache's tiles as they are; for many rows a tile is expanded once to float32 panels
// (vectors of 16 keys [head_dim][16], of 16 channels [64][16]) that fit the first-level cache. Included by
// *_<isa>.cc with their V; everything has internal linkage, and nothing is called that would not have it.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/masks.h"
#include "kernels/attention/merge.h"
#include "kernels/attention/micro.h"
#include "kernels/attention/softmax.h"

namespace kvass {
namespace {

// Rows from which a tile is expanded rather than converted again by every micro block.
constexpr int64_t kExpandRows = 13;

// One block of rows, walking over its spans.
template <class V, class S, int kAccumulators>
class Walk {
  using T = typename S::T;

 public:
  explicit Walk(const AttentionBlock& block)
      : block_(block),
        rows_(block.rows),
        head_dim_(block.head_dim),
        vectors_(block.head_dim / 16),
        micros_((block.rows + kMicroRows - 1) / kMicroRows),
        micro_rows_(block.rows / micros_),
        larger_micros_(block.rows % micros_) {
    const int64_t padded = (rows_ + 15) & ~int64_t{15};  // every part stays on a cache line
    float* next = static_cast<float*>(block.scratch);
    const auto take = [&next](int64_t floats) {
      float* part = next;
      next += floats;
      return part;
    };
    keys_ = take(64 * head_dim_);
    values_ = take(64 * head_dim_);
    q_ = take(rows_ * head_dim_);
    o_ = take(rows_ * head_dim_);
    s_ = take(rows_ * 64);
    l_ = take(rows_ * 16);
    m_ = take(padded);
    factor_ = take(padded);
    state_ = take(2 * padded);
    low_ = reinterpret_cast<int64_t*>(take(2 * padded));
    high_ = reinterpret_cast<int64_t*>(take(2 * padded));
    mask_ = reinterpret_cast<uint64_t*>(take(2 * padded));
    joined_ = reinterpret_cast<JoinedMask*>(take(4 * padded));
  }

  void run(int64_t begin, int64_t end, float* partials) {
    for (int64_t i = 0; i < 2 * rows_; ++i) state_[i] = 0.0f;
    for (int64_t span = begin; span < end; ++span) {
      if (span == begin || span == block_.sink_spans) enter_segment(span < block_.sink_spans);
      run_span(span < block_.sink_spans ? span : block_.ring_first_span + span - block_.sink_spans);
      if (partials) {
        store_partials(partials + (span - begin) * rows_ * attention_partial_floats(head_dim_));
        continue;
      }
      for (int64_t i = 0; i < rows_; ++i) {
        merge_span<V>(m_[i], V::reduce_add(V::load(l_ + i * 16)), o_ + i * 16, rows_ * 16, head_dim_, state_ + 2 * i,
                      out_row(block_, i));
      }
    }
    if (partials) return;
    for (int64_t i = 0; i < rows_; ++i) finish_row<V>(block_, i, state_ + 2 * i);
  }

 private:
  // Micro block i has rows [micro_begin(i), micro_begin(i + 1)): sizes differ by at most one.
  int64_t micro_begin(int64_t i) const { return i * micro_rows_ + smaller(i, larger_micros_); }

  // The visible offsets of every row, and its query as the keys of this segment see it.
  void enter_segment(bool in_sink) {
    segment_ = in_sink ? &block_.sink : &block_.ring;
    const bool own_angles = in_sink && block_.sink_cos;
    const float* cos = own_angles ? block_.sink_cos : block_.cos;
    const float* sin = own_angles ? block_.sink_sin : block_.sin;
    for (int64_t i = 0; i < rows_; ++i) {
      const int64_t row = block_.first_row + i;
      const int64_t query = row / block_.group;
      const RowVisibility& visible = block_.visible[query];
      low_[i] = in_sink ? 0 : larger(visible.begin - segment_->origin, 0);
      high_[i] = (in_sink ? visible.sink_end : visible.end) - segment_->origin;
      const float* rows = in_sink && block_.q_sink ? block_.q_sink : block_.q;
      const float* x = rows + query * block_.q_stride + row % block_.group * head_dim_;
      float* q = q_ + i * head_dim_;
      if (cos) {
        block_.rotate(x, cos + query * (head_dim_ / 2), sin + query * (head_dim_ / 2), q, 1, head_dim_);
      } else {
        for (int64_t d = 0; d < head_dim_; d += 16) V::store(q + d, V::load(x + d));
      }
    }
  }

  void run_span(int64_t span) {
    for (int64_t i = 0; i < rows_; ++i) m_[i] = -__builtin_inff();
    for (int64_t i = 0; i < rows_ * 16; i += 16) V::store(l_ + i, V::zero());
    for (int64_t i = 0; i < rows_ * head_dim_; i += 16) V::store(o_ + i, V::zero());
    const int64_t tiles = kSpanKeys / kTileKeys;
    for (int64_t tile = span * tiles; tile < (span + 1) * tiles; ++tile) run_tile(tile);
  }

  void store_partials(float* partial) {
    for (int64_t i = 0; i < rows_; ++i, partial += attention_partial_floats(head_dim_)) {
      partial[0] = m_[i];
      partial[1] = V::reduce_add(V::load(l_ + i * 16));
      float* o = partial + kAttentionPartialPad;
      for (int64_t c = 0; c < vectors_; ++c) V::store(o + c * 16, V::load(o_ + (c * rows_ + i) * 16));
    }
  }

  void run_tile(int64_t tile) {
    const int64_t slot = tile % segment_->tiles;
    const uint64_t valid = segment_->valid ? segment_->valid[slot] : ~uint64_t{0};
    uint64_t any = 0;
    for (int64_t i = 0; i < rows_; ++i) {
      mask_[i] = tile_mask(low_[i], high_[i], tile * kTileKeys) & valid;
      any |= mask_[i];
    }
    if (any == 0) return;
    for (int64_t micro = 0; micro < micros_; ++micro) {
      joined_[micro] = join_masks(mask_ + micro_begin(micro), micro_begin(micro + 1) - micro_begin(micro));
    }

    const int64_t key_elements = head_dim_ * kTileKeys;
    const int64_t key_bytes = key_elements * static_cast<int64_t>(sizeof(T));
    AttentionTile at;
    if (segment_->read) {
      at = segment_->read(segment_->source, segment_->kv_head, tile, any, block_.tile_scratch);
    } else {
      const uint8_t* data = segment_->data + slot * 2 * key_bytes;
      at = {data, data + key_bytes, head_dim_, data + key_bytes, data + 2 * key_bytes};
    }
    const T* k = static_cast<const T*>(at.k);
    const T* v = static_cast<const T*>(at.v);
    if (rows_ >= kExpandRows) {
      expand_keys<V, S>(k, any, head_dim_, keys_);
      expand_values<V, S>(v, at.v_stride, any, head_dim_, values_);
      const TileView<float> view{keys_, 16, 16 * head_dim_, values_, 16, 16 * kTileKeys, nullptr, nullptr, key_bytes};
      attend<StoredF32<V>>(view, vectors_for(kMicroRows, kAccumulators));
    } else {
      const TileView<T> view{k, kTileKeys, 16, v, at.v_stride, 16, at.ahead_of_v, at.ahead_of_k, key_bytes};
      attend<S>(view, static_cast<int>(larger(vectors_, 4)));
    }
  }

  // Scores, softmax and values of one tile; `step` vectors of keys or channels are walked over by all micro blocks in
  // turn.
  template <class Source>
  void attend(const TileView<typename Source::T>& tile, int step) {
    using Loops = Micro<V, Source, kAccumulators>;
    TileView<typename Source::T> view = tile;
    for (int c = 0; c < 4; c += step) {
      for (int64_t micro = 0; micro < micros_; ++micro) {
        if (joined_[micro].seen == 0) continue;
        const int64_t first = micro_begin(micro);
        Loops::score[micro_begin(micro + 1) - first](view, c, static_cast<int>(smaller(c + step, 4)),
                                                     joined_[micro].seen, q_ + first * head_dim_, head_dim_,
                                                     s_ + first * 64);
        view.ahead_of_v = nullptr;  // asked for once
      }
    }
    for (int64_t i = 0; i < rows_; ++i) {
      factor_[i] = 1.0f;
      if (mask_[i] == 0) continue;
      const auto weigh = mask_[i] == ~uint64_t{0} ? &weigh_tile<V, true> : &weigh_tile<V, false>;
      factor_[i] = weigh(s_ + i * 64, mask_[i], block_.scale, block_.softcap, m_ + i, l_ + i * 16);
    }

    for (int64_t c = 0; c < vectors_; c += step) {
      for (int64_t micro = 0; micro < micros_; ++micro) {
        const uint64_t mask = joined_[micro].common;
        if (mask == 0) continue;
        const int64_t first = micro_begin(micro);
        Loops::value[micro_begin(micro + 1) - first](view, c, smaller(c + step, vectors_), s_ + first * 64,
                                                     __builtin_ctzll(mask), kTileKeys - __builtin_clzll(mask),
                                                     factor_ + first, o_ + first * 16, rows_ * 16);
        view.ahead_of_k = nullptr;
      }
    }
    for (int64_t micro = 0; micro < micros_; ++micro) {
      if (joined_[micro].seen == 0 || joined_[micro].common != 0) continue;
      const int64_t first = micro_begin(micro);
      add_ragged<Loops>(tile, first, micro_begin(micro + 1) - first);
    }
  }

  // Rows of a micro block that see different keys: keys in runs that the same rows see, ascending. A key enters a row
  // only if it is visible there: 0 · NaN would be NaN, and a zero may change its sign.
  template <class Loops>
  void add_ragged(const TileView<typename Loops::T>& tile, int64_t first, int64_t count) {
    constexpr float kNoFactor[kMicroRows] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    TileView<typename Loops::T> view = tile;
    view.ahead_of_k = nullptr;
    const int64_t o_stride = rows_ * 16;
    uint64_t any = 0;
    uint64_t edges = 0;
    for (int64_t i = first; i < first + count; ++i) {
      any |= mask_[i];
      edges |= mask_[i] ^ mask_[i] << 1;
      if (factor_[i] != 1.0f) Loops::value[1](view, 0, vectors_, s_ + i * 64, 0, 0, factor_ + i, o_ + i * 16, o_stride);
    }
    while (any != 0) {
      const auto [begin, end] = next_run(any, edges);
      int64_t seeing = 0;
      for (int64_t i = first; i < first + count; ++i) seeing += static_cast<int64_t>(mask_[i] >> begin & 1);
      if (seeing == count) {
        Loops::value[count](view, 0, vectors_, s_ + first * 64, begin, end, kNoFactor, o_ + first * 16, o_stride);
        continue;
      }
      for (int64_t i = first; i < first + count; ++i) {
        if ((mask_[i] >> begin & 1) == 0) continue;
        Loops::value[1](view, 0, vectors_, s_ + i * 64, begin, end, kNoFactor, o_ + i * 16, o_stride);
      }
    }
  }

  const AttentionBlock& block_;
  const AttentionKeys* segment_ = nullptr;
  int64_t rows_;
  int64_t head_dim_;
  int64_t vectors_;  // of 16 channels
  int64_t micros_;
  int64_t micro_rows_;  // rows of a micro block; the first larger_micros_ have one more
  int64_t larger_micros_;
  float* keys_;    // [4][head_dim][16]
  float* values_;  // [head_dim / 16][64][16]
  float* q_;       // [rows][head_dim]
  float* o_;       // [head_dim / 16][rows][16]
  float* s_;       // [rows][64] scores, then weights
  float* l_;       // [rows][16]
  float* m_;       // [rows]
  float* factor_;  // [rows] what o is multiplied by before this tile
  float* state_;   // [rows][2] m, l of the merged spans
  int64_t* low_;   // [rows] visible offsets [low, high) of this segment
  int64_t* high_;
  uint64_t* mask_;      // [rows] visible lanes of this tile
  JoinedMask* joined_;  // [micro blocks] of this tile
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
  }
}

}  // namespace
}  // namespace kvass
