// One span of 512 keys for up to R rows, by one block of device threads, in the order of attention.h. All scores of the
// span come first, a thread a key and all channels of its chain; then the maxima of its tiles, the weights, and the l;
// then o, a thread a channel and all keys of its chain. Keys and values pass through shared memory in stages that are
// copied ahead, so that many are on their way while one is used.
#pragma once

#include "kernels/attention/cuda_rows.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kSpan = static_cast<int>(kSpanKeys);
constexpr int kTile = static_cast<int>(kTileKeys);
constexpr int kSpanTiles = kSpan / kTile;
constexpr int kStages = 3;
constexpr int kStageBytes = 8192;
constexpr int kPitchPad = 16;  // between the rows of a stage of keys, so that threads of a warp meet no bank twice
constexpr int kBufferBytes = kStageBytes + kTile * kPitchPad;

// What a block keeps in shared memory.
template <int R>
struct SpanMemory {
  float* q;         // [R][padded]; with q8 the bytes come behind: [R][padded]
  int8_t* q_bytes;  // q8
  float* q_scale;   // [R] q8
  float* s;         // [R][512] scores, then weights
  float* v_scale;   // [512] q8
  uint64_t* mask;   // [R][8] bit = lane: the row sees the key
  float* top;       // [R][8] highest score of the tile, then m while the tile is summed
  float* factor;    // [R][8] what l and o are multiplied by before the tile
  int* rose;        // [R] bit = tile: m rose with it
  int* low;         // [R] visible offsets in the span
  int* high;        // [R]
  float* m;         // [R] of the span
  float* l;         // [R]
  uint8_t* stages;  // [kStages][kBufferBytes]

  KVASS_BOTH static size_t bytes(int padded, bool q8) {
    SpanMemory memory;
    return static_cast<size_t>(memory.carve(nullptr, padded, q8) - static_cast<uint8_t*>(nullptr));
  }
  KVASS_BOTH uint8_t* carve(uint8_t* from, int padded, bool q8) {
    take(from, stages, kStages * kBufferBytes);
    take(from, q, R * padded);
    take(from, s, R * kSpan);
    take(from, mask, R * kSpanTiles);
    take(from, top, R * kSpanTiles);
    take(from, factor, R * kSpanTiles);
    take(from, rose, R);
    take(from, low, R);
    take(from, high, R);
    take(from, m, R);
    take(from, l, R);
    take(from, q_scale, R);
    take(from, v_scale, q8 ? kSpan : 0);
    take(from, q_bytes, q8 ? R * padded : 0);
    return from;
  }

 private:
  template <class T>
  KVASS_BOTH static void take(uint8_t*& from, T*& part, int count) {
    part = reinterpret_cast<T*>(from);
    from += (static_cast<size_t>(count) * sizeof(T) + 15) / 16 * 16;
  }
};

template <class S, bool kRows, int R>
class Span {
  using T = typename S::T;
  static constexpr bool kQ8 = sizeof(T) == 1;
  static constexpr int kChunk = kStageBytes / (kTile * static_cast<int>(sizeof(T)));  // channels of a stage of keys

 public:
  KVASS_METHOD Span(const DeviceAttentionParams& p, const Item& item, int padded)
      : p_(p), item_(item), padded_(padded), thread_(thread_index()), threads_(block_threads()) {
    memory.carve(shared_memory(), padded, kQ8);
    key_stages_ = (padded + kChunk - 1) / kChunk;
    lanes_ = kTile;
    while (lanes_ * padded * static_cast<int>(sizeof(T)) > kStageBytes) lanes_ /= 2;
    value_stages_ = kTile / lanes_;
    tile_bytes_ = 2 * (static_cast<int64_t>(kTile) * padded * static_cast<int64_t>(sizeof(T)) + (kQ8 ? 4 * kTile : 0));
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
    if constexpr (kRows) {
      const int64_t bytes = static_cast<int64_t>(sizeof(T));
      fast_keys_ = sixteen_bytes(p_.keys.k, p_.keys.cached, p_.keys.keys, bytes);
      fast_values_ = sixteen_bytes(p_.keys.v, p_.keys.cached, p_.keys.keys, bytes);
    }
    barrier();
  }

  // (m, l, o) of span `span` of the segment: m and l of row r in memory, o of channel thread + threads · c in o[r][c].
  // False where no row sees a key of it: nothing was done, and l would be 0.
  KVASS_METHOD bool run(int64_t span, float (&o)[R][2]) {
    first_ = span * kSpanKeys;
    if (!look()) return false;
    const int keys = (last_tile_ - first_tile_) * key_stages_;
    steps_ = keys + (last_tile_ - first_tile_) * value_stages_;
    next_ = 0;
    for (int i = 0; i < kStages - 1; ++i) issue();
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

  // Where the tile of an offset lies.
  KVASS_METHOD const uint8_t* tile_at(int tile) const {
    return segment_.data + (first_ / kTile + tile) % segment_.tiles * tile_bytes_;
  }

  // Begins the copy of the next stage, if there is one.
  KVASS_METHOD void issue() {
    if (next_ < steps_) {
      uint8_t* to = memory.stages + next_ % kStages * kBufferBytes;
      const int keys = (last_tile_ - first_tile_) * key_stages_;
      if (next_ < keys) {
        const int d = next_ % key_stages_ * kChunk;
        stage_keys(first_tile_ + next_ / key_stages_, d, padded_ - d < kChunk ? padded_ - d : kChunk, to);
      } else {
        const int at = next_ - keys;
        stage_values(first_tile_ + at / value_stages_, at % value_stages_ * lanes_, to);
      }
    }
    ++next_;
    copy_commit();
  }

  KVASS_METHOD void copy_plain_bytes(const uint8_t* from, int bytes, uint8_t* to) const {
    for (int i = thread_ * 16; i < bytes; i += threads_ * 16) copy_async(to + i, from + i);
  }

  // Channels [d, d + count) of a tile's keys: columns [count][64] as tiles have them, or rows [64] of count.
  KVASS_METHOD void stage_keys(int tile, int d, int count, uint8_t* to) const {
    if constexpr (kRows) {
      const int row_bytes = count * static_cast<int>(sizeof(T));
      stage_rows(p_.keys.k, fast_keys_, tile * kTile, kTile, d, count, row_bytes + kPitchPad, to);
    } else {
      const int bytes = kTile * static_cast<int>(sizeof(T));
      copy_plain_bytes(tile_at(tile) + d * bytes, count * bytes, to);
    }
  }
  // Rows [lane, lane + lanes_) of a tile's values.
  KVASS_METHOD void stage_values(int tile, int lane, uint8_t* to) const {
    const int row_bytes = padded_ * static_cast<int>(sizeof(T));
    if constexpr (kRows) {
      stage_rows(p_.keys.v, fast_values_, tile * kTile + lane, lanes_, 0, padded_, row_bytes, to);
    } else {
      copy_plain_bytes(tile_at(tile) + tile_bytes_ / 2 + lane * row_bytes, lanes_ * row_bytes, to);
    }
  }
  // Channels [d, d + count) of the keys at offsets [offset, offset + lanes) of the span; +0 for what is not there.
  KVASS_METHOD void stage_rows(const DeviceRows<const uint8_t>* parts, bool fast, int offset, int lanes, int d,
                               int count, int pitch, uint8_t* to) const {
    constexpr int kElements = 16 / static_cast<int>(sizeof(T));
    const int pieces = count / kElements;  // of a row
    const int head_dim = static_cast<int>(p_.head_dim);
    for (int i = thread_; i < lanes * pieces; i += threads_) {
      const int lane = i / pieces;
      const int begin = d + i % pieces * kElements;
      T* piece = reinterpret_cast<T*>(to + lane * pitch + i % pieces * 16);
      const bool there = offset + lane >= low_ && offset + lane < high_;
      const T* row = nullptr;
      const int64_t key = segment_.first_key + first_ + offset + lane;
      if (there) {
        row = reinterpret_cast<const T*>(key_row(p_.keys, parts, item_.run, item_.kv_head, key, sizeof(T)));
      }
      if (there && fast && begin + kElements <= head_dim) {
        copy_async(piece, row + begin);
      } else {
        const int64_t stride = parts[key < p_.keys.cached ? 0 : 1].channel;
        for (int e = 0; e < kElements; ++e) piece[e] = there && begin + e < head_dim ? row[(begin + e) * stride] : T{};
      }
    }
  }

  // The stage of step `step`, once it has arrived for every thread; the next copy is on its way then.
  KVASS_METHOD const uint8_t* arrive(int step) {
    copy_wait<kStages - 2>();
    barrier();
    issue();
    return memory.stages + step % kStages * kBufferBytes;
  }

  // s of every row and key. Threads are (key of the tile, rows r ≡ group mod groups).
  KVASS_METHOD void score(int steps) {
    const int key = thread_ % kTile, group = thread_ / kTile, groups = threads_ / kTile;
    float sum[R] = {};
    int32_t dot[R] = {};
    for (int step = 0; step < steps; ++step) {
      const uint8_t* stage = arrive(step);
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
        const uint8_t* scales = tile_at(tile) + kTile * padded_;
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
      const T* v = reinterpret_cast<const T*>(arrive(step)) + thread_;
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

  const DeviceAttentionParams& p_;
  const Item& item_;
  const int padded_;
  const int thread_, threads_;
  int key_stages_, value_stages_, lanes_;
  int64_t tile_bytes_;
  Segment segment_;
  bool in_sink_ = false;
  bool fast_keys_ = false, fast_values_ = false;
  int64_t first_ = 0;  // offset of the span
  int low_ = 0, high_ = 0, first_tile_ = 0, last_tile_ = 0;
  int steps_ = 0, next_ = 0;
};

}  // namespace
}  // namespace kvass::KVASS_DEVICE
