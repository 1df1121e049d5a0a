// attention_block and attention_merge over a lane set V: rows in micro blocks of up to six that share every load of a
// key. A block of few rows reads the cache's tiles as they are; for many rows a tile is expanded once to float32 panels
// (vectors of 16 keys [head_dim][16], of 16 channels [64][16]) that fit the first-level cache. Includes nothing that
// emits code: the including *_<isa>.cc has brought V. Everything has internal linkage.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/micro.h"
#include "kernels/functions.h"

namespace kvass {
namespace {

// Rows from which a tile is expanded rather than converted again by every micro block.
constexpr int64_t kExpandRows = 13;

KVASS_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
KVASS_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class V>
KVASS_INLINE float exp1(float x) {
  float lanes[V::kLanes];
  V::store(lanes, exp_nonpositive<V>(V::set1(x)));
  return lanes[0];
}

// Adds a partial to the row's state (m, l) and to its o in `out`.
template <class V>
void merge_partial(const float* partial, int64_t head_dim, float* state, float* out) {
  using F = typename V::F;
  const float* o = partial + kAttentionPartialPad;
  if (partial[1] == 0.0f) return;
  if (state[1] == 0.0f) {
    state[0] = partial[0];
    state[1] = partial[1];
    for (int64_t d = 0; d < head_dim; d += 16) V::store(out + d, V::load(o + d));
    return;
  }
  const float m = partial[0] > state[0] ? partial[0] : state[0];
  const float a = exp1<V>(state[0] - m);
  const float b = exp1<V>(partial[0] - m);
  state[0] = m;
  state[1] = __builtin_fmaf(partial[1], b, state[1] * a);
  const F va = V::set1(a);
  const F vb = V::set1(b);
  for (int64_t d = 0; d < head_dim; d += 16) {
    V::store(out + d, V::fma(V::load(o + d), vb, V::mul(V::load(out + d), va)));
  }
}

template <class V>
void finish_row(const AttentionBlock& block, int64_t head, float* state, float* out) {
  if (block.sink_logits) {
    float partial[kAttentionMaxHeadDim + kAttentionPartialPad];
    partial[0] = block.sink_logits[head];
    partial[1] = 1.0f;
    for (int64_t d = 0; d < block.head_dim; ++d) partial[kAttentionPartialPad + d] = 0.0f;
    merge_partial<V>(partial, block.head_dim, state, out);
  }
  const typename V::F inverse = V::set1(1.0f / state[1]);
  for (int64_t d = 0; d < block.head_dim; d += 16) {
    V::store(out + d, state[1] == 0.0f ? V::zero() : V::mul(V::load(out + d), inverse));
  }
}

KVASS_INLINE float* out_row(const AttentionBlock& block, int64_t i) {
  const int64_t row = block.first_row + i;
  return block.out + row / block.group * block.out_stride + row % block.group * block.head_dim;
}

template <class V>
void merge_rows(const AttentionBlock& block, int64_t begin, int64_t end, const float* partials, int64_t spans,
                float* state, bool last) {
  for (int64_t i = begin; i < end; ++i) {
    float* out = out_row(block, i);
    for (int64_t span = 0; span < spans; ++span) {
      merge_partial<V>(partials + (span * block.rows + i) * attention_partial_floats(block.head_dim), block.head_dim,
                       state + 2 * i, out);
    }
    if (last) finish_row<V>(block, (block.first_row + i) % block.group, state + 2 * i, out);
  }
}

// One block of rows, walking over its spans.
template <class V, class S, int kAccumulators>
class Walk {
  using F = typename V::F;
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
    partial_ = take(rows_ * attention_partial_floats(head_dim_));
    s_ = take(rows_ * 64);
    l_ = take(rows_ * 16);
    rotated_ = take(kAttentionMaxHeadDim);
    m_ = take(padded);
    factor_ = take(padded);
    state_ = take(2 * padded);
    low_ = reinterpret_cast<int64_t*>(take(2 * padded));
    high_ = reinterpret_cast<int64_t*>(take(2 * padded));
    mask_ = reinterpret_cast<uint64_t*>(take(2 * padded));
    seen_ = reinterpret_cast<uint64_t*>(take(2 * padded));
    common_ = reinterpret_cast<uint64_t*>(take(2 * padded));
  }

  void run(int64_t begin, int64_t end, float* partials) {
    const int64_t partial_floats = attention_partial_floats(head_dim_);
    for (int64_t i = 0; i < 2 * rows_; ++i) state_[i] = 0.0f;
    for (int64_t span = begin; span < end; ++span) {
      if (span == begin || span == block_.sink_spans) enter_segment(span < block_.sink_spans);
      float* slots = partials ? partials + (span - begin) * rows_ * partial_floats : partial_;
      run_span(span < block_.sink_spans ? span : block_.ring_first_span + span - block_.sink_spans, slots);
      if (!partials) merge_rows<V>(block_, 0, rows_, slots, 1, state_, false);
    }
    if (!partials) merge_rows<V>(block_, 0, rows_, nullptr, 0, state_, true);
  }

 private:
  // Micro block i has rows [micro_begin(i), micro_begin(i + 1)): sizes differ by at most one.
  int64_t micro_begin(int64_t i) const { return i * micro_rows_ + smaller(i, larger_micros_); }

  // The visible offsets of every row, and its query as the keys of this segment see it, packed [micro
  // block][head_dim][R].
  void enter_segment(bool in_sink) {
    segment_ = in_sink ? &block_.sink : &block_.ring;
    const bool own_angles = in_sink && block_.sink_cos;
    const float* cos = own_angles ? block_.sink_cos : block_.cos;
    const float* sin = own_angles ? block_.sink_sin : block_.sin;
    for (int64_t micro = 0; micro < micros_; ++micro) {
      const int64_t first = micro_begin(micro);
      const int64_t count = micro_begin(micro + 1) - first;
      for (int64_t r = 0; r < count; ++r) {
        const int64_t row = block_.first_row + first + r;
        const int64_t query = row / block_.group;
        const RowVisibility& visible = block_.visible[query];
        low_[first + r] = in_sink ? 0 : larger(visible.begin - segment_->origin, 0);
        high_[first + r] = (in_sink ? visible.sink_end : visible.end) - segment_->origin;
        const float* x = block_.q + query * block_.q_stride + row % block_.group * head_dim_;
        if (cos) {
          block_.rotate(x, cos + query * (head_dim_ / 2), sin + query * (head_dim_ / 2), rotated_, 1, head_dim_);
          x = rotated_;
        }
        float* packed = q_ + first * head_dim_ + r;
        for (int64_t d = 0; d < head_dim_; ++d) packed[d * count] = x[d];
      }
    }
  }

  void run_span(int64_t span, float* slots) {
    for (int64_t i = 0; i < rows_; ++i) m_[i] = -__builtin_inff();
    for (int64_t i = 0; i < rows_ * 16; i += 16) V::store(l_ + i, V::zero());
    for (int64_t i = 0; i < rows_ * head_dim_; i += 16) V::store(o_ + i, V::zero());
    for (int64_t tile = span * (kSpanKeys / kTileKeys); tile < (span + 1) * (kSpanKeys / kTileKeys); ++tile)
      run_tile(tile);
    for (int64_t i = 0; i < rows_; ++i) {
      float* slot = slots + i * attention_partial_floats(head_dim_);
      slot[0] = m_[i];
      slot[1] = V::reduce_add(V::load(l_ + i * 16));
      for (int64_t c = 0; c < vectors_; ++c) {
        V::store(slot + kAttentionPartialPad + c * 16, V::load(o_ + (c * rows_ + i) * 16));
      }
    }
  }

  void run_tile(int64_t tile) {
    const int64_t slot = tile % segment_->tiles;
    const uint64_t valid = segment_->valid ? segment_->valid[slot] : ~uint64_t{0};
    uint64_t any = 0;
    for (int64_t i = 0; i < rows_; ++i) {
      const int64_t low = larger(low_[i] - tile * kTileKeys, 0);
      const int64_t high = smaller(high_[i] - tile * kTileKeys, kTileKeys);
      mask_[i] = low < high ? (~uint64_t{0} >> (kTileKeys - (high - low))) << low & valid : 0;
      any |= mask_[i];
    }
    if (any == 0) return;
    for (int64_t micro = 0; micro < micros_; ++micro) join_masks(micro);

    const int64_t key_elements = head_dim_ * kTileKeys;
    const T* k = reinterpret_cast<const T*>(segment_->data) + slot * 2 * key_elements;
    const T* v = k + key_elements;
    const int64_t key_bytes = key_elements * static_cast<int64_t>(sizeof(T));
    if (rows_ >= kExpandRows) {
      expand_keys(k, any);
      expand_values(v, any);
      const TileView<float> view{keys_, 16, 16 * head_dim_, values_, 16, 16 * kTileKeys, nullptr, key_bytes};
      attend<StoredF32<V>>(view, vectors_for(kMicroRows, kAccumulators));
    } else {
      const TileView<T> view{k, kTileKeys, 16, v, head_dim_, 16, reinterpret_cast<const uint8_t*>(v), key_bytes};
      attend<S>(view, static_cast<int>(larger(vectors_, 4)));
    }
  }

  // K [head_dim][64] -> [4][head_dim][16], the vectors with visible keys only.
  void expand_keys(const T* k, uint64_t any) {
    for (int c = 0; c < 4; ++c) {
      if ((any >> (16 * c) & 0xffff) == 0) continue;
      float* panel = keys_ + c * 16 * head_dim_;
      for (int64_t d = 0; d < head_dim_; ++d) V::store(panel + d * 16, S::load(k + d * kTileKeys + c * 16));
    }
  }

  // V [64][head_dim] -> [head_dim / 16][64][16], from the first to the last visible key.
  void expand_values(const T* v, uint64_t any) {
    const int64_t end = kTileKeys - __builtin_clzll(any);
    for (int64_t j = __builtin_ctzll(any); j < end; ++j) {
      for (int64_t c = 0; c < vectors_; ++c)
        V::store(values_ + (c * kTileKeys + j) * 16, S::load(v + j * head_dim_ + c * 16));
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
        if (seen_[micro] == 0) continue;
        const int64_t first = micro_begin(micro);
        Loops::score[micro_begin(micro + 1) - first](view, c, static_cast<int>(smaller(c + step, 4)), seen_[micro],
                                                     q_ + first * head_dim_, head_dim_, s_ + first * 64);
        view.ahead = nullptr;  // asked for once
      }
    }
    for (int64_t i = 0; i < rows_; ++i) weigh_row(i);

    view.ahead = tile.ahead;
    for (int64_t c = 0; c < vectors_; c += step) {
      for (int64_t micro = 0; micro < micros_; ++micro) {
        const uint64_t mask = common_[micro];
        if (mask == 0) continue;
        const int64_t first = micro_begin(micro);
        Loops::value[micro_begin(micro + 1) - first](view, c, smaller(c + step, vectors_), s_ + first * 64,
                                                     __builtin_ctzll(mask), kTileKeys - __builtin_clzll(mask),
                                                     factor_ + first, o_ + first * 16, rows_ * 16);
        view.ahead = nullptr;
      }
    }
    for (int64_t micro = 0; micro < micros_; ++micro) {
      if (seen_[micro] == 0 || common_[micro] != 0) continue;
      const int64_t first = micro_begin(micro);
      add_ragged<Loops>(tile, first, micro_begin(micro + 1) - first);
    }
  }

  // What the rows of a micro block see together, and the mask that they share when it is one run of keys (else 0).
  void join_masks(int64_t micro) {
    const int64_t first = micro_begin(micro);
    const int64_t end = micro_begin(micro + 1);
    uint64_t any = 0;
    uint64_t all = ~uint64_t{0};
    for (int64_t i = first; i < end; ++i) {
      any |= mask_[i];
      all &= mask_[i];
    }
    const uint64_t run = all == 0 ? 0 : all >> __builtin_ctzll(all);
    seen_[micro] = any;
    common_[micro] = any == all && (run & (run + 1)) == 0 ? all : 0;
  }

  // Scores of row i to weights p, in place; m, the lanes of l, and the factor that o still needs.
  void weigh_row(int64_t i) {
    const uint64_t mask = mask_[i];
    factor_[i] = 1.0f;
    if (mask == 0) return;
    float* row = s_ + i * 64;
    const F scale = V::set1(block_.scale);
    const F cap = V::set1(block_.softcap);
    F s[4];
    for (int c = 0; c < 4; ++c) s[c] = V::mul(V::load(row + c * 16), scale);
    if (block_.softcap != 0.0f) {
      for (int c = 0; c < 4; ++c) s[c] = softcap<V>(s[c], cap);
    }
    const F lowest = V::set1(-__builtin_inff());
    F top = lowest;
    for (int c = 0; c < 4; ++c) {
      top = V::max(V::select(V::mask(static_cast<uint32_t>(mask >> (16 * c) & 0xffff)), s[c], lowest), top);
    }
    const float highest = V::reduce_max(top);
    F l = V::load(l_ + i * 16);
    if (highest > m_[i]) {
      // The first visible tile comes here with m = -inf: l and o are +0 and stay so.
      factor_[i] = exp1<V>(m_[i] - highest);
      l = V::mul(l, V::set1(factor_[i]));
      m_[i] = highest;
    }
    const F m = V::set1(m_[i]);
    for (int c = 0; c < 4; ++c) {
      const F p = V::select(V::mask(static_cast<uint32_t>(mask >> (16 * c) & 0xffff)),
                            exp_nonpositive<V>(V::sub(s[c], m)), V::zero());
      l = V::add(l, p);
      V::store(row + c * 16, p);
    }
    V::store(l_ + i * 16, l);
  }

  // Rows of a micro block that see different keys: keys in runs that the same rows see, ascending. A key enters a row
  // only if it is visible there: 0 · NaN would be NaN, and a zero may change its sign.
  template <class Loops>
  void add_ragged(const TileView<typename Loops::T>& tile, int64_t first, int64_t count) {
    constexpr float kNoFactor[kMicroRows] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    TileView<typename Loops::T> view = tile;
    view.ahead = nullptr;
    const int64_t o_stride = rows_ * 16;
    uint64_t any = 0;
    uint64_t edges = 0;  // bit j: some row sees exactly one of keys j - 1 and j
    for (int64_t i = first; i < first + count; ++i) {
      any |= mask_[i];
      edges |= mask_[i] ^ mask_[i] << 1;
      if (factor_[i] != 1.0f) Loops::value[1](view, 0, vectors_, s_ + i * 64, 0, 0, factor_ + i, o_ + i * 16, o_stride);
    }
    while (any != 0) {
      const int begin = __builtin_ctzll(any);
      const uint64_t rest = begin == 63 ? 0 : edges >> (begin + 1) << (begin + 1);
      const int end = rest == 0 ? 64 : __builtin_ctzll(rest);
      any = end == 64 ? 0 : any >> end << end;
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
  float* keys_;     // [4][head_dim][16]
  float* values_;   // [head_dim / 16][64][16]
  float* q_;        // [micro block][head_dim][R]
  float* o_;        // [head_dim / 16][rows][16]
  float* partial_;  // [rows][attention_partial_floats]
  float* s_;        // [rows][64] scores, then weights
  float* l_;        // [rows][16]
  float* rotated_;  // [head_dim]
  float* m_;        // [rows]
  float* factor_;   // [rows] what o is multiplied by before this tile
  float* state_;    // [rows][2] m, l of the merged spans
  int64_t* low_;    // [rows] visible offsets [low, high) of this segment
  int64_t* high_;
  uint64_t* mask_;    // [rows] visible lanes of this tile
  uint64_t* seen_;    // [micro blocks] lanes that some row sees
  uint64_t* common_;  // [micro blocks] lanes that every row sees and no other is seen; 0 unless they are one run
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
