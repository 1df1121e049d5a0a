// One span of 512 keys for up to R rows, by one block of device threads, in the order of attention.h. All scores of the
// span come first, a thread a key and all channels of its chain; then the maxima of its tiles, the weights, and the l;
// then o, a thread a channel and all keys of its chain. Keys and values pass through shared memory in stages that are
// copied ahead, so that many are on their way while one is used.
#pragma once

#include "kernels/attention/cuda_stage.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

template <class S, bool kRows, int R>
class Span : private KeyStages<S, kRows> {
  using Base = KeyStages<S, kRows>;
  using Base::first_;
  using Base::first_tile_;
  using Base::high_;
  using Base::item_;
  using Base::kChunk;
  using Base::key_stages_;
  using Base::kQ8;
  using Base::lanes_;
  using Base::last_tile_;
  using Base::low_;
  using Base::p_;
  using Base::padded_;
  using Base::segment_;
  using Base::steps_;
  using Base::thread_;
  using Base::threads_;
  using Base::tile_bytes_;
  using Base::value_stages_;
  using typename Base::T;

 public:
  KVASS_METHOD Span(const DeviceAttentionParams& p, const Item& item, int padded) : Base(p, item, padded) {
    memory.carve(shared_memory(), padded, kQ8);
    this->stages_ = memory.stages;
  }

  KVASS_METHOD int64_t tile_bytes() const { return tile_bytes_; }

  // Queries of the rows as the keys of a segment see them.
  KVASS_METHOD void enter(const Segment& segment, bool in_sink) {
    segment_ = segment;
    in_sink_ = in_sink;
    barrier();  // whoever still reads the last segment's queries
    const int warp = thread_ / 32, lane = thread_ % 32;
    for (int r = warp; r < R; r += threads_ / 32) {
      float* q = memory.q + r * padded_;
      if (r < item_.rows) {
        load_query(p_, item_, item_.first + r, in_sink, padded_, lane, 32, q);
      } else {
        for (int d = lane; d < padded_; d += 32) q[d] = 0.0f;
      }
      if constexpr (kQ8) quantise(r, lane);
    }
    this->look_at_rows();
    barrier();
  }

  // (m, l, o) of span `span` of the segment: m and l of row r in memory, o of channel thread + threads · c in o[r][c].
  // False where no row sees a key of it: nothing was done, and l would be 0.
  KVASS_METHOD bool run(int64_t span, float (&o)[R][2]) {
    first_ = span * kSpanKeys;
    if (!look()) return false;
    const int keys = (last_tile_ - first_tile_) * key_stages_;
    steps_ = keys + (last_tile_ - first_tile_) * value_stages_;
    this->next_ = 0;
    for (int i = 0; i < kStages - 1; ++i) this->issue();
    score(keys);
    barrier();
    softmax();
    barrier();
    sum_weights();
    add_values(keys, o);
    return true;
  }

  SpanMemory<R> memory;

 private:
  // NUMERICS rule 7, a warp a row.
  KVASS_METHOD void quantise(int r, int lane) {
    warp_barrier();
    const float* x = memory.q + r * padded_;
    float most = 0.0f;
    bool finite = true;
    for (int d = lane; d < padded_; d += 32) {
      const float a = D::abs(x[d]);
      finite = finite && a < __builtin_inff();  // NaN is not
      most = a > most ? a : most;
    }
    for (int by = 16; by >= 1; by /= 2) {
      const float other = shuffle_xor(most, by);
      most = other > most ? other : most;
    }
    finite = ballot(finite) == 0xffffffffu;
    const bool some = finite && most >= 0x1p-100f;
    for (int d = lane; d < padded_; d += 32) {
      memory.q_bytes[r * padded_ + d] = some ? static_cast<int8_t>(D::to_int(mul_rn(x[d], div_rn(127.0f, most)))) : 0;
    }
    if (lane == 0) memory.q_scale[r] = some ? div_rn(most, 127.0f) : finite ? 0.0f : __builtin_nanf("");
  }

  // What the rows see of the span, and the tiles with a key that one of them may see.
  KVASS_METHOD bool look() {
    barrier();  // whoever still reads the last span
    if (thread_ < R) {
      // Rows that are not there see what the first one sees, so that they do not slow the others.
      const int64_t row = item_.first + (thread_ < item_.rows ? thread_ : 0);
      const Seen seen = seen_of(p_, item_, segment_, row, in_sink_);
      memory.low[thread_] = static_cast<int>(greater(0, lesser(seen.low - first_, kSpan)));
      memory.high[thread_] = static_cast<int>(greater(0, lesser(seen.high - first_, kSpan)));
    }
    barrier();
    low_ = kSpan;
    high_ = 0;
    for (int r = 0; r < R; ++r) {
      if (memory.low[r] >= memory.high[r]) continue;
      low_ = memory.low[r] < low_ ? memory.low[r] : low_;
      high_ = memory.high[r] > high_ ? memory.high[r] : high_;
    }
    if (low_ >= high_) return false;
    first_tile_ = low_ / kTile;
    last_tile_ = (high_ + kTile - 1) / kTile;
    return true;
  }

  // s of every row and key. Threads are (key of the tile, rows r ≡ group mod groups).
  KVASS_METHOD void score(int steps) {
    const int key = thread_ % kTile, group = thread_ / kTile, groups = threads_ / kTile;
    float sum[R] = {};
    int32_t dot[R] = {};
    for (int step = 0; step < steps; ++step) {
      const uint8_t* stage = this->arrive(step);
      const int d0 = step % key_stages_ * kChunk;
      const int count = padded_ - d0 < kChunk ? padded_ - d0 : kChunk;
      if (d0 == 0) {
        KVASS_UNROLL
        for (int i = 0; i < R; ++i) {
          sum[i] = 0.0f;
          dot[i] = 0;
        }
      }
      const T* k = reinterpret_cast<const T*>(stage);
      if constexpr (kRows) k += key * (count + kPitchPad / static_cast<int>(sizeof(T)));
      for (int d = 0; d < count; d += 4) {
        if constexpr (kQ8) {
          const int32_t four = reinterpret_cast<const int32_t*>(stage)[d / 4 * kTile + key];
          KVASS_UNROLL
          for (int i = 0; i < R; ++i) {
            const int r = group + i * groups;
            if (r < R)
              dot[i] = dot4(four, reinterpret_cast<const int32_t*>(memory.q_bytes)[(r * padded_ + d0 + d) / 4], dot[i]);
          }
        } else {
          float x[4];
          KVASS_UNROLL
          for (int j = 0; j < 4; ++j) x[j] = S::load(kRows ? k + d + j : k + (d + j) * kTile + key);
          KVASS_UNROLL
          for (int i = 0; i < R; ++i) {
            const int r = group + i * groups;
            if (r >= R) continue;
            const Four q = *reinterpret_cast<const Four*>(memory.q + r * padded_ + d0 + d);
            KVASS_UNROLL
            for (int j = 0; j < 4; ++j) sum[i] = fma_rn(q.x[j], x[j], sum[i]);
          }
        }
      }
      if (d0 + count < padded_) continue;
      const int tile = first_tile_ + step / key_stages_;
      float key_scale = 0.0f;
      if constexpr (kQ8) {
        const uint8_t* scales = this->tile_at(tile) + kTile * padded_;
        key_scale = reinterpret_cast<const float*>(scales)[key];
        if (group == 0)
          memory.v_scale[tile * kTile + key] = reinterpret_cast<const float*>(scales + tile_bytes_ / 2)[key];
      }
      KVASS_UNROLL
      for (int i = 0; i < R; ++i) {
        const int r = group + i * groups;
        if (r >= R) continue;
        float s = kQ8 ? mul_rn(D::to_float(dot[i]), mul_rn(mul_rn(memory.q_scale[r], key_scale), p_.scale))
                      : mul_rn(sum[i], p_.scale);
        if (p_.softcap != 0.0f) s = kvass::softcap<D>(s, p_.softcap);
        memory.s[r * kSpan + tile * kTile + key] = s;
      }
    }
  }

  // Masks, maxima and weights, over all tiles of the span.
  KVASS_METHOD void softmax() {
    const int warp = thread_ / 32, lane = thread_ % 32;
    for (int pair = warp; pair < R * kSpanTiles; pair += threads_ / 32) {
      const int r = pair / kSpanTiles, tile = pair % kSpanTiles;
      uint32_t bits[2];
      float top = -__builtin_inff();
      KVASS_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int at = tile * kTile + 32 * half + lane;
        const bool seen = at >= memory.low[r] && at < memory.high[r] && valid_key(p_, segment_, item_.run, first_ + at);
        bits[half] = ballot(seen);
        const float s = seen ? memory.s[r * kSpan + at] : -__builtin_inff();
        top = top < s ? s : top;  // NaN is not the highest
      }
      for (int by = 16; by >= 1; by /= 2) {
        const float other = shuffle_xor(top, by);
        top = top < other ? other : top;
      }
      if (lane == 0) {
        memory.mask[pair] = static_cast<uint64_t>(bits[1]) << 32 | bits[0];
        memory.top[pair] = top;
      }
    }
    barrier();
    if (thread_ < R) {
      float m = 0.0f;
      bool empty = true;
      int rose = 0;
      for (int tile = 0; tile < kSpanTiles; ++tile) {
        const int at = thread_ * kSpanTiles + tile;
        if (memory.mask[at] == 0) continue;
        const float top = memory.top[at];
        if (empty) {
          m = top;
          empty = false;
        } else if (top > m) {
          memory.factor[at] = kvass::exp_nonpositive<D>(sub_rn(m, top));
          rose |= 1 << tile;
          m = top;
        }
        memory.top[at] = m;
      }
      memory.rose[thread_] = rose;
      memory.m[thread_] = m;
    }
    barrier();
    for (int i = thread_; i < R * kSpan; i += threads_) {
      const int pair = i / kTile;
      if ((memory.mask[pair] >> (i % kTile) & 1) == 0) continue;
      memory.s[i] = kvass::exp_nonpositive<D>(sub_rn(memory.s[i], memory.top[pair]));
    }
  }

  // l of every row: sixteen threads its lanes, then folded.
  KVASS_METHOD void sum_weights() {
    const int lane = thread_ % 16;
    for (int r = thread_ / 16; r < (R + 1) / 2 * 2; r += threads_ / 16) {  // both halves of a warp come to the fold
      float l = 0.0f;
      for (int tile = first_tile_; r < R && tile < last_tile_; ++tile) {
        const uint64_t mask = memory.mask[r * kSpanTiles + tile];
        if ((memory.rose[r] >> tile & 1) != 0) l = mul_rn(l, memory.factor[r * kSpanTiles + tile]);
        for (int j = lane; j < kTile; j += 16) {
          if ((mask >> j & 1) != 0) l = add_rn(l, memory.s[r * kSpan + tile * kTile + j]);
        }
      }
      for (int by = 8; by >= 1; by /= 2) l = add_rn(l, shuffle_down(l, by, 16));
      if (lane == 0 && r < R) memory.l[r] = l;
    }
  }

  KVASS_METHOD float weight(int r, int at) const {
    const float p = memory.s[r * kSpan + at];
    return kQ8 ? mul_rn(p, memory.v_scale[at]) : p;
  }

  KVASS_METHOD void add_values(int first_step, float (&o)[R][2]) {
    KVASS_UNROLL
    for (int r = 0; r < R; ++r) o[r][0] = o[r][1] = 0.0f;
    const bool first = thread_ < padded_, second = thread_ + threads_ < padded_;
    for (int step = first_step; step < steps_; ++step) {
      const T* v = reinterpret_cast<const T*>(this->arrive(step)) + thread_;
      const int tile = first_tile_ + (step - first_step) / value_stages_;
      const int lane = (step - first_step) % value_stages_ * lanes_;
      bool all = true;  // every row sees every key
      for (int r = 0; r < R; ++r) {
        all = all && memory.mask[r * kSpanTiles + tile] == ~uint64_t{0};
        if (lane != 0 || (memory.rose[r] >> tile & 1) == 0) continue;
        const float factor = memory.factor[r * kSpanTiles + tile];
        o[r][0] = mul_rn(o[r][0], factor);
        o[r][1] = mul_rn(o[r][1], factor);
      }
      if (first) add_keys(v, tile * kTile + lane, all, 0, o);
      if (second) add_keys(v + threads_, tile * kTile + lane, all, 1, o);
    }
  }

  // lanes_ keys from offset `at` on for one channel.
  KVASS_METHOD void add_keys(const T* v, int at, bool all, int c, float (&o)[R][2]) const {
    if (all && lanes_ >= 4) {
      for (int j = 0; j < lanes_; j += 4) {
        float x[4];
        KVASS_UNROLL
        for (int i = 0; i < 4; ++i) x[i] = S::load(v + (j + i) * padded_);
        KVASS_UNROLL
        for (int r = 0; r < R; ++r) {
          Four p = *reinterpret_cast<const Four*>(memory.s + r * kSpan + at + j);
          if constexpr (kQ8) {
            KVASS_UNROLL
            for (int i = 0; i < 4; ++i) p.x[i] = mul_rn(p.x[i], memory.v_scale[at + j + i]);
          }
          KVASS_UNROLL
          for (int i = 0; i < 4; ++i) o[r][c] = fma_rn(p.x[i], x[i], o[r][c]);
        }
      }
      return;
    }
    for (int j = 0; j < lanes_; ++j) {
      const float x = S::load(v + j * padded_);
      KVASS_UNROLL
      for (int r = 0; r < R; ++r) {
        if ((memory.mask[r * kSpanTiles + at / kTile] >> ((at + j) % kTile) & 1) != 0) {
          o[r][c] = fma_rn(weight(r, at + j), x, o[r][c]);
        }
      }
    }
  }

  bool in_sink_ = false;
};

}  // namespace
}  // namespace kvass::KVASS_DEVICE
