// Copies keys and values into shared memory for attention_fast, ahead of their use, into one of two stages. A tile's
// keys are rows, or columns if they come from a cache; its values are rows. Also computes which keys of a span the rows
// of a block see, and lays out the memory that the warps share.
#pragma once

#include "kernels/attention/cuda_rows.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kWarpRows = 16;

// Shapes for heads of up to kDim channels.
template <int kDim>
struct FastShape {
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;  // keys of a tile in this kernel
  static constexpr int kPitch = 2 * kDim + 16;         // bytes of a row in shared memory; the pad puts rows on
                                                       // different banks
  static constexpr int kColumnPitch = 2 * kKeys + 16;  // bytes of a channel of transposed keys
  static constexpr int kKeyBytes = kKeys * kPitch > kDim* kColumnPitch ? kKeys* kPitch : kDim* kColumnPitch;
  static constexpr int kStageBytes = kKeyBytes + kKeys * kPitch;

  // Stages, queries, visible ranges, valid keys of a tile, and the merged o if a block takes several spans.
  static constexpr int64_t shared_bytes(int warps, bool several_spans) {
    const int rows = warps * kWarpRows;
    return 2 * kStageBytes + rows * kPitch + rows * 2 * 4 + 2 * 16 + (several_spans ? rows * kDim * 4 : 0);
  }
};

template <int kDim>
class FastStages {
 protected:
  using Shape = FastShape<kDim>;
  static constexpr int kKeys = Shape::kKeys;
  static constexpr int kSpan = static_cast<int>(kSpanKeys);

  KVASS_METHOD FastStages(const DeviceAttentionParams& p, const Item& item, int padded)
      : p_(p), item_(item), padded_(padded), thread_(thread_index()), threads_(block_threads()) {
    rows_ = threads_ / 32 * kWarpRows;
    warp_row_ = thread_ / 32 * kWarpRows;
    lane_ = thread_ % 32;
    stages_ = shared_memory();
    q_ = stages_ + 2 * Shape::kStageBytes;
    low_ = reinterpret_cast<int*>(q_ + rows_ * Shape::kPitch);
    high_ = low_ + rows_;
    valid_ = reinterpret_cast<uint64_t*>(high_ + rows_);
    all_ = reinterpret_cast<float*>(valid_ + 4);
    tile_bytes_ = int64_t{2} * 2 * kTileKeys * padded_;
  }

  KVASS_METHOD void look_at_rows() {
    if (p_.runs) return;
    fast_keys_ = sixteen_bytes(p_.keys.k, p_.keys.cached, p_.keys.keys, 2);
    fast_values_ = sixteen_bytes(p_.keys.v, p_.keys.cached, p_.keys.keys, 2);
  }

  // Computes which keys of the span the rows see. False if no row sees a key of it.
  KVASS_METHOD bool look() {
    barrier();
    for (int r = thread_; r < rows_; r += threads_) {
      const Seen seen = seen_of(p_, item_, segment_, item_.first + (r < item_.rows ? r : 0), in_sink_);
      low_[r] = static_cast<int>(greater(0, lesser(seen.low - first_, kSpan)));
      high_[r] = static_cast<int>(greater(0, lesser(seen.high - first_, kSpan)));
    }
    barrier();
    block_low_ = kSpan;
    block_high_ = 0;
    for (int r = 0; r < rows_; ++r) {
      if (low_[r] >= high_[r]) continue;
      block_low_ = low_[r] < block_low_ ? low_[r] : block_low_;
      block_high_ = high_[r] > block_high_ ? high_[r] : block_high_;
    }
    return block_low_ < block_high_;
  }

  KVASS_METHOD bool masked() const { return p_.runs ? segment_.valid != nullptr : p_.keys.mask != nullptr; }

  // Begins the copy of a tile: its keys as rows [key], or as columns [channel] from a cache; its values as rows, +0 for
  // keys that no row may see.
  KVASS_METHOD void stage(int tile, int which) {
    uint8_t* keys = stages_ + which * Shape::kStageBytes;
    uint8_t* values = keys + Shape::kKeyBytes;
    const int at = tile * kKeys;
    if (p_.runs) {
      const int64_t offset = first_ + at;
      const uint8_t* from = segment_.data + offset / kTileKeys % segment_.tiles * tile_bytes_;
      const int lane = static_cast<int>(offset % kTileKeys);
      constexpr int kPieces = kKeys / 8;
      for (int i = thread_; i < kDim * kPieces; i += threads_) {
        const int d = i / kPieces, piece = i % kPieces * 8;
        uint8_t* to = keys + d * Shape::kColumnPitch + piece * 2;
        if (d < padded_) {
          copy_async(to, from + (d * kTileKeys + lane + piece) * 2);
        } else {
          clear(to);
        }
      }
      stage_rows(p_.keys.v, true, from + tile_bytes_ / 2 + int64_t{lane} * padded_ * 2, at, values);
    } else {
      stage_rows(p_.keys.k, fast_keys_, nullptr, at, keys);
      stage_rows(p_.keys.v, fast_values_, nullptr, at, values);
    }
    if (masked()) {
      for (int i = thread_; i < 64; i += threads_) {
        const bool good = i < kKeys && valid_key(p_, segment_, item_.run, first_ + at + i);
        const uint32_t bits = ballot(good);
        if (lane_ == 0) reinterpret_cast<uint32_t*>(valid_ + which)[i / 32] = bits;
      }
    }
    copy_commit();
  }

  KVASS_METHOD static void clear(uint8_t* to) { *reinterpret_cast<Four*>(to) = Four{{0.0f, 0.0f, 0.0f, 0.0f}}; }

  // Begins the copy of rows of keys or values: from tensors, or consecutive rows from `tile_rows` on.
  KVASS_METHOD void stage_rows(const DeviceRows<const uint8_t>* parts, bool fast, const uint8_t* tile_rows, int at,
                               uint8_t* to) const {
    constexpr int kPieces = kDim / 8;
    const int head_dim = static_cast<int>(p_.head_dim);
    for (int i = thread_; i < kKeys * kPieces; i += threads_) {
      const int key = i / kPieces, d = i % kPieces * 8;
      uint8_t* piece = to + key * Shape::kPitch + d * 2;
      const int64_t offset = first_ + at + key;
      const bool there = at + key >= block_low_ && at + key < block_high_ && d < padded_ &&
                         (!masked() || valid_key(p_, segment_, item_.run, offset));
      if (!there) {
        clear(piece);
        continue;
      }
      const int64_t index = segment_.first_key + offset;
      const uint8_t* row = tile_rows ? tile_rows + int64_t{key} * padded_ * 2
                                     : key_row(p_.keys, parts, item_.run, item_.kv_head, index, 2);
      if (fast && d + 8 <= (tile_rows ? padded_ : head_dim)) {
        copy_async(piece, row + d * 2);
        continue;
      }
      const int64_t stride = parts[index < p_.keys.cached ? 0 : 1].channel;
      for (int e = 0; e < 8; ++e) {
        reinterpret_cast<uint16_t*>(piece)[e] =
            d + e < head_dim ? reinterpret_cast<const uint16_t*>(row)[(d + e) * stride] : uint16_t{0};
      }
    }
  }

  const DeviceAttentionParams& p_;
  const Item& item_;
  const int padded_;
  const int thread_, threads_;
  int rows_, warp_row_, lane_;  // rows of the block; the first row of this warp
  uint8_t* stages_;             // [2][keys | values]
  uint8_t* q_;                  // [rows][kPitch bytes]
  int *low_, *high_;            // [rows] visible offsets in the span
  uint64_t* valid_;             // [2] valid keys of the tile in each stage, bit = key
  float* all_;                  // [kDim / 2][threads] merged o, if a block takes several spans
  int64_t tile_bytes_;
  Segment segment_;
  bool in_sink_ = false, fast_keys_ = false, fast_values_ = false;
  int64_t first_ = 0;                   // offset of the span
  int block_low_ = 0, block_high_ = 0;  // the offsets in it that some row sees
};

}  // namespace
}  // namespace kvass::KVASS_DEVICE
