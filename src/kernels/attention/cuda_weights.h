// Turns the scores of a span into weights, for attention_exact, in the order of attention.h: the maxima of its tiles,
// then p = exp(s − m) of every key that a row sees, then l. All threads of the block must call.
#pragma once

#include "kernels/attention/cuda_stage.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

// Masks, maxima and weights over all tiles of the span that begins at offset `first` of the segment.
template <int R>
KVASS_DEVICE_FN void weigh_scores(const SpanMemory<R>& memory, const DeviceAttentionParams& p, const Segment& segment,
                                  int64_t run, int64_t first) {
  const int thread = thread_index(), threads = block_threads();
  const int warp = thread / 32, lane = thread % 32;
  for (int pair = warp; pair < R * kSpanTiles; pair += threads / 32) {
    const int r = pair / kSpanTiles, tile = pair % kSpanTiles;
    uint32_t bits[2];
    float top = -__builtin_inff();
    KVASS_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int at = tile * kTile + 32 * half + lane;
      const bool seen = at >= memory.low[r] && at < memory.high[r] && valid_key(p, segment, run, first + at);
      bits[half] = ballot(seen);
      const float s = seen ? memory.s[r * kSpan + at] : -__builtin_inff();
      top = top < s ? s : top;  // ignores NaN
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
  if (thread < R) {
    float m = 0.0f;
    bool empty = true;
    int rose = 0;
    for (int tile = 0; tile < kSpanTiles; ++tile) {
      const int at = thread * kSpanTiles + tile;
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
    memory.rose[thread] = rose;
    memory.m[thread] = m;
  }
  barrier();
  for (int i = thread; i < R * kSpan; i += threads) {
    const int pair = i / kTile;
    if ((memory.mask[pair] >> (i % kTile) & 1) == 0) continue;
    memory.s[i] = kvass::exp_nonpositive<D>(sub_rn(memory.s[i], memory.top[pair]));
  }
}

// Computes l of every row: sixteen threads have its lanes, which are then folded.
template <int R>
KVASS_DEVICE_FN void sum_weights(const SpanMemory<R>& memory, int first_tile, int last_tile) {
  const int thread = thread_index(), threads = block_threads();
  const int lane = thread % 16;
  for (int r = thread / 16; r < (R + 1) / 2 * 2; r += threads / 16) {  // both halves of a warp must reach the fold
    float l = 0.0f;
    for (int tile = first_tile; r < R && tile < last_tile; ++tile) {
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

}  // namespace
}  // namespace kvass::KVASS_DEVICE
