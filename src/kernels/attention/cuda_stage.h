// Copies keys and values into shared memory for attention_exact: a span's tiles in stages, ahead of their use. A stage
// holds some channels of a tile's keys or some rows of its values. Also lays out the other shared memory of a block.
#pragma once

#include "kernels/attention/cuda_rows.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kSpan = static_cast<int>(kSpanKeys);
constexpr int kTile = static_cast<int>(kTileKeys);
constexpr int kSpanTiles = kSpan / kTile;
constexpr int kStages = 3;
constexpr int kStageBytes = 8192;
constexpr int kPitchPad = 16;  // bytes between the rows of a stage of keys: no bank conflicts within a warp
constexpr int kBufferBytes = kStageBytes + kTile * kPitchPad;

// The shared memory of a block.
template <int R>
struct SpanMemory {
  float* q;         // [R][padded]; with q8 followed by the bytes, [R][padded]
  int8_t* q_bytes;  // q8
  float* q_scale;   // [R] q8
  float* s;         // [R][512] scores, then weights
  float* v_scale;   // [512] q8
  uint64_t* mask;   // [R][8] bit = lane: the row sees the key
  float* top;       // [R][8] highest score of the tile, then m at the tile
  float* factor;    // [R][8] l and o are multiplied by it before the tile
  int* rose;        // [R] bit = tile: m rose at this tile
  int* low;         // [R] visible offsets in the span
  int* high;        // [R]
  float* m;         // [R] m and l of the span
  float* l;         // [R]
  uint8_t* stages;  // [kStages][kBufferBytes]

  // Sets the pointers to parts of the memory at `base`. Returns the bytes of all parts.
  KVASS_BOTH size_t carve(uint8_t* base, int padded, bool q8) {
    size_t bytes = 0;
    take(base, bytes, stages, kStages * kBufferBytes);
    take(base, bytes, q, R * padded);
    take(base, bytes, s, R * kSpan);
    take(base, bytes, mask, R * kSpanTiles);
    take(base, bytes, top, R * kSpanTiles);
    take(base, bytes, factor, R * kSpanTiles);
    take(base, bytes, rose, R);
    take(base, bytes, low, R);
    take(base, bytes, high, R);
    take(base, bytes, m, R);
    take(base, bytes, l, R);
    take(base, bytes, q_scale, R);
    take(base, bytes, v_scale, q8 ? kSpan : 0);
    take(base, bytes, q_bytes, q8 ? R * padded : 0);
    return bytes;
  }

 private:
  template <class T>
  KVASS_BOTH static void take(uint8_t* base, size_t& bytes, T*& part, int count) {
    part = base ? reinterpret_cast<T*>(base + bytes) : nullptr;
    bytes += (static_cast<size_t>(count) * sizeof(T) + 15) / 16 * 16;
  }
};

// The stages of one span. All threads of a block call its functions together.
template <class S, bool kRows>
class KeyStages {
 protected:
  using T = typename S::T;
  static constexpr bool kQ8 = sizeof(T) == 1;
  static constexpr int kChunk = kStageBytes / (kTile * static_cast<int>(sizeof(T)));  // channels in a stage of keys

  KVASS_METHOD KeyStages(const DeviceAttentionParams& p, const Item& item, int padded)
      : p_(p), item_(item), padded_(padded), thread_(thread_index()), threads_(block_threads()) {
    key_stages_ = (padded + kChunk - 1) / kChunk;
    lanes_ = kTile;
    while (lanes_ * padded * static_cast<int>(sizeof(T)) > kStageBytes) lanes_ /= 2;
    value_stages_ = kTile / lanes_;
    tile_bytes_ = 2 * (static_cast<int64_t>(kTile) * padded * static_cast<int64_t>(sizeof(T)) + (kQ8 ? 4 * kTile : 0));
  }

  KVASS_METHOD void look_at_rows() {
    if constexpr (kRows) {
      const int64_t bytes = static_cast<int64_t>(sizeof(T));
      fast_keys_ = sixteen_bytes(p_.keys.k, p_.keys.cached, p_.keys.keys, bytes);
      fast_values_ = sixteen_bytes(p_.keys.v, p_.keys.cached, p_.keys.keys, bytes);
    }
  }

  // The address of a tile of the span.
  KVASS_METHOD const uint8_t* tile_at(int tile) const {
    return segment_.data + (first_ / kTile + tile) % segment_.tiles * tile_bytes_;
  }

  // Begins the copy of the next stage, if there is one.
  KVASS_METHOD void issue() {
    if (next_ < steps_) {
      uint8_t* to = stages_ + next_ % kStages * kBufferBytes;
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

  // Begins the copy of channels [d, d + count) of a tile's keys: columns [count][64] from tiles, or rows [64][count].
  KVASS_METHOD void stage_keys(int tile, int d, int count, uint8_t* to) const {
    if constexpr (kRows) {
      const int row_bytes = count * static_cast<int>(sizeof(T));
      stage_rows(p_.keys.k, fast_keys_, tile * kTile, kTile, d, count, row_bytes + kPitchPad, to);
    } else {
      const int bytes = kTile * static_cast<int>(sizeof(T));
      copy_plain_bytes(tile_at(tile) + d * bytes, count * bytes, to);
    }
  }
  // Begins the copy of rows [lane, lane + lanes_) of a tile's values.
  KVASS_METHOD void stage_values(int tile, int lane, uint8_t* to) const {
    const int row_bytes = padded_ * static_cast<int>(sizeof(T));
    if constexpr (kRows) {
      stage_rows(p_.keys.v, fast_values_, tile * kTile + lane, lanes_, 0, padded_, row_bytes, to);
    } else {
      copy_plain_bytes(tile_at(tile) + tile_bytes_ / 2 + lane * row_bytes, lanes_ * row_bytes, to);
    }
  }
  // Begins the copy of channels [d, d + count) of the keys at offsets [offset, offset + lanes) of the span; +0 for
  // missing channels and keys.
  KVASS_METHOD void stage_rows(const DeviceRows<const uint8_t>* parts, bool fast, int offset, int lanes, int d,
                               int count, int pitch, uint8_t* to) const {
    constexpr int kElements = 16 / static_cast<int>(sizeof(T));
    const int pieces = count / kElements;  // copies for each row
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

  // Waits until the stage of step `step` has arrived for every thread, begins the next copy, and returns the stage.
  KVASS_METHOD const uint8_t* arrive(int step) {
    copy_wait<kStages - 2>();
    barrier();
    issue();
    return stages_ + step % kStages * kBufferBytes;
  }

  const DeviceAttentionParams& p_;
  const Item& item_;
  const int padded_;
  const int thread_, threads_;
  uint8_t* stages_ = nullptr;  // [kStages][kBufferBytes]
  int key_stages_, value_stages_;
  int lanes_;  // rows in a stage of values
  int64_t tile_bytes_;
  Segment segment_;
  bool fast_keys_ = false, fast_values_ = false;
  int64_t first_ = 0;       // offset of the span
  int low_ = 0, high_ = 0;  // the offsets in it that some row sees
  int first_tile_ = 0, last_tile_ = 0;
  int steps_ = 0, next_ = 0;  // number of stages of the span; the next to be copied
};

}  // namespace
}  // namespace kvass::KVASS_DEVICE
