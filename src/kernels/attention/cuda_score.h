// The scores of one span of 512 keys for up to R rows, for attention_exact: s = (q · k) · scale, capped. A thread
// computes the whole chain of a key over all channels; keys pass through shared memory in the stages of cuda_stage.h.
// With q8 the queries are bytes too and the dot products are integers.
#pragma once

#include "kernels/attention/cuda_stage.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

template <class S, bool kRows, int R>
class SpanScores : protected KeyStages<S, kRows> {
 protected:
  using Base = KeyStages<S, kRows>;
  using Base::first_;
  using Base::first_tile_;
  using Base::high_;
  using Base::item_;
  using Base::kChunk;
  using Base::key_stages_;
  using Base::kQ8;
  using Base::last_tile_;
  using Base::low_;
  using Base::p_;
  using Base::padded_;
  using Base::segment_;
  using Base::thread_;
  using Base::threads_;
  using Base::tile_bytes_;
  using typename Base::T;

  KVASS_METHOD SpanScores(const DeviceAttentionParams& p, const Item& item, int padded) : Base(p, item, padded) {
    memory.carve(shared_memory(), padded, kQ8);
    this->stages_ = memory.stages;
  }

  // Loads the queries of the rows, rotated for the keys of a segment.
  KVASS_METHOD void enter(const Segment& segment, bool in_sink) {
    segment_ = segment;
    in_sink_ = in_sink;
    barrier();  // all threads have finished with the last segment's queries
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

  // The quantisation of docs/numerics.md, 7: one warp for each row.
  KVASS_METHOD void quantise(int r, int lane) {
    warp_barrier();
    const float* x = memory.q + r * padded_;
    float most = 0.0f;
    bool finite = true;
    for (int d = lane; d < padded_; d += 32) {
      const float a = D::abs(x[d]);
      finite = finite && a < __builtin_inff();  // false for NaN
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

  // Finds the keys of the span that the rows see, and the range of tiles that hold them. False if the rows see none.
  KVASS_METHOD bool look() {
    barrier();  // all threads have finished with the last span
    if (thread_ < R) {
      // Rows past the end of the block get the range of the first row, so that they do not extend the range.
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

  // Computes s of every row and key. A thread has one key of the tile and the rows r ≡ group mod groups.
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

  SpanMemory<R> memory;
  bool in_sink_ = false;
};

}  // namespace
}  // namespace kvass::KVASS_DEVICE
