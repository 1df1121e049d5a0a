// One span of 512 keys for up to R rows, by one block of device threads, in the order of attention.h. First all scores
// of the span (cuda_score.h), then the weights and l (cuda_weights.h), then o: a thread has one channel and all keys of
// its chain. Keys and values pass through shared memory in stages that are copied ahead, so that several copies are in
// flight while one stage is used.
#pragma once

#include "kernels/attention/cuda_score.h"
#include "kernels/attention/cuda_weights.h"

namespace kvass::KVASS_DEVICE {
namespace {

template <class S, bool kRows, int R>
class Span : private SpanScores<S, kRows, R> {
  using Base = SpanScores<S, kRows, R>;
  using Base::first_;
  using Base::first_tile_;
  using Base::item_;
  using Base::key_stages_;
  using Base::kQ8;
  using Base::lanes_;
  using Base::last_tile_;
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
  using Base::enter;
  using Base::memory;

  KVASS_METHOD Span(const DeviceAttentionParams& p, const Item& item, int padded) : Base(p, item, padded) {}

  KVASS_METHOD int64_t tile_bytes() const { return tile_bytes_; }

  // Computes (m, l, o) of span `span` of the segment: m and l of row r in memory, o of channel thread + threads · c in
  // o[r][c]. Returns false without computing anything if no row sees a key of the span.
  KVASS_METHOD bool run(int64_t span, float (&o)[R][2]) {
    first_ = span * kSpanKeys;
    if (!this->look()) return false;
    const int keys = (last_tile_ - first_tile_) * key_stages_;
    steps_ = keys + (last_tile_ - first_tile_) * value_stages_;
    this->next_ = 0;
    for (int i = 0; i < kStages - 1; ++i) this->issue();
    this->score(keys);
    barrier();
    weigh_scores(memory, p_, segment_, item_.run, first_);
    barrier();
    sum_weights(memory, first_tile_, last_tile_);
    add_values(keys, o);
    return true;
  }

 private:
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

  // Adds lanes_ keys from offset `at` on to one channel.
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
};

}  // namespace
}  // namespace kvass::KVASS_DEVICE
