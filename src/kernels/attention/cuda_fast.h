// attention_fast: a warp owns sixteen rows and walks over their keys in tiles, both products on tensor cores:
//     s = (q · k) · scale, capped      m = max(m, the tile's s)      p = 2^((s − m) · log2 e), rounded to the keys'
//     type l, o = l, o · 2^((m_old − m) · log2 e);      l += p before its rounding;      o += p · v
// from scratch for every span of 512 keys; spans merge as in cuda_merge.h. What a row gets depends on no other row:
// blocks are one to four warps that share what they read, and a decode step and a prefill are the same sums. A key that
// a row does not see has p = 0; where another row sees it and its value is infinite or NaN, so is this row's result.
#pragma once

#include "device/matrix.h"
#include "kernels/attention/cuda_rows.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kWarpRows = 16;
constexpr float kLog2E = 0x1.715476p+0f;

struct FastParams {
  DeviceAttentionParams p;
  int64_t blocks;
  int64_t spans;
  int padded, cell_rows;
  float* partials;  // as attention_exact's
};

struct FastF16 {
  KVASS_DEVICE_STATIC void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_f16(c, a, b0, b1);
  }
  KVASS_DEVICE_STATIC uint32_t pack(float low, float high) { return pack_f16(low, high); }
};
struct FastBf16 {
  KVASS_DEVICE_STATIC void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_bf16(c, a, b0, b1);
  }
  KVASS_DEVICE_STATIC uint32_t pack(float low, float high) { return pack_bf16(low, high); }
};

// Shapes for heads of up to kDim channels.
template <int kDim>
struct FastShape {
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;  // of a tile here
  static constexpr int kPitch = 2 * kDim + 16;         // bytes of a row in shared memory; the pad keeps rows off each
                                                       // other's banks
  static constexpr int kColumnPitch = 2 * kKeys + 16;  // of a channel of transposed keys
  static constexpr int kKeyBytes = kKeys * kPitch > kDim* kColumnPitch ? kKeys* kPitch : kDim* kColumnPitch;
  static constexpr int kStageBytes = kKeyBytes + kKeys * kPitch;

  // Stages, queries, what rows see, validity of a tile; the merged o where a block takes several spans.
  static constexpr int64_t shared_bytes(int warps, bool several_spans) {
    const int rows = warps * kWarpRows;
    return 2 * kStageBytes + rows * kPitch + rows * 2 * 4 + 2 * 16 + (several_spans ? rows * kDim * 4 : 0);
  }
};

template <class M, int kDim>
class Fast {
  using Shape = FastShape<kDim>;
  static constexpr int kKeys = Shape::kKeys;
  static constexpr int kSteps = kDim / 16;   // of a product over channels
  static constexpr int kVectors = kDim / 8;  // of eight channels
  static constexpr int kSpan = static_cast<int>(kSpanKeys);

 public:
  KVASS_METHOD Fast(const FastParams& params, const Item& item)
      : p_(params.p), item_(item), padded_(params.padded), thread_(thread_index()), threads_(block_threads()) {
    rows_ = threads_ / 32 * kWarpRows;
    warp_row_ = thread_ / 32 * kWarpRows;
    lane_ = thread_ % 32;
    stages_ = shared_memory();
    q_ = stages_ + 2 * Shape::kStageBytes;
    low_ = reinterpret_cast<int*>(q_ + rows_ * Shape::kPitch);
    high_ = low_ + rows_;
    valid_ = reinterpret_cast<uint64_t*>(high_ + rows_);  // [2] of the tile in each stage
    all_ = reinterpret_cast<float*>(valid_ + 4);          // [kDim / 2][threads]
    tile_bytes_ = int64_t{2} * 2 * kTileKeys * padded_;
  }

  KVASS_METHOD int64_t tile_bytes() const { return tile_bytes_; }
  KVASS_METHOD float* all() const { return all_; }

  KVASS_METHOD void enter(const Segment& segment, bool in_sink) {
    segment_ = segment;
    in_sink_ = in_sink;
    barrier();
    // A row's float32 in the place of a stage, then rounded: a warp a row.
    float* row = reinterpret_cast<float*>(stages_) + thread_ / 32 * kDim;
    for (int r = thread_ / 32; r < rows_; r += threads_ / 32) {
      const int64_t at = item_.first + (r < item_.rows ? r : 0);
      load_query(p_, item_, at, in_sink, kDim, lane_, 32, row);
      warp_barrier();
      uint32_t* to = reinterpret_cast<uint32_t*>(q_ + r * Shape::kPitch);
      for (int d = lane_; d < kDim / 2; d += 32) to[d] = M::pack(row[2 * d], row[2 * d + 1]);
      warp_barrier();
    }
    if (!p_.runs) {
      fast_keys_ = sixteen_bytes(p_.keys.k, p_.keys.cached, p_.keys.keys, 2);
      fast_values_ = sixteen_bytes(p_.keys.v, p_.keys.cached, p_.keys.keys, 2);
    }
    barrier();
  }

  // o and, of this thread's rows g and g + 8, m and l of a span. False where no row of the block sees a key of it.
  KVASS_METHOD bool run(int64_t span, float (&o)[kVectors][4], float (&m)[2], float (&l)[2]) {
    first_ = span * kSpanKeys;
    if (!look()) return false;
    KVASS_UNROLL
    for (int c = 0; c < kVectors; ++c) o[c][0] = o[c][1] = o[c][2] = o[c][3] = 0.0f;
    m[0] = m[1] = -__builtin_inff();
    l[0] = l[1] = 0.0f;
    const int begin = block_low_ / kKeys, end = (block_high_ + kKeys - 1) / kKeys;
    stage(begin, 0);
    KVASS_NO_UNROLL
    for (int tile = begin; tile < end; ++tile) {
      const int which = (tile - begin) % 2;
      if (tile + 1 < end) {
        stage(tile + 1, 1 - which);
        copy_wait<1>();
      } else {
        copy_wait<0>();
      }
      barrier();
      attend(tile, which, o, m, l);
      barrier();
    }
    KVASS_UNROLL
    for (int i = 0; i < 2; ++i) {
      l[i] += shuffle_xor(l[i], 1);
      l[i] += shuffle_xor(l[i], 2);
    }
    return true;
  }

 private:
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

  // Begins the copy of a tile: its keys as rows [key] or, of a cache, as columns [channel]; its values as rows, +0 for
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

  // Rows of keys or values: of tensors, or one behind another from `tile_rows` on.
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

  KVASS_METHOD void attend(int tile, int which, float (&o)[kVectors][4], float (&m)[2], float (&l)[2]) {
    const int at = tile * kKeys;
    const int g = lane_ / 4, t = lane_ % 4;
    int low[2], high[2];
    KVASS_UNROLL
    for (int i = 0; i < 2; ++i) {
      low[i] = low_[warp_row_ + g + 8 * i] - at;
      high[i] = high_[warp_row_ + g + 8 * i] - at;
    }
    const bool mine =
        (low[0] < kKeys && high[0] > 0 && low[0] < high[0]) || (low[1] < kKeys && high[1] > 0 && low[1] < high[1]);
    if (ballot(mine) == 0) return;
    const bool whole = ballot(low[0] <= 0 && low[1] <= 0 && high[0] >= kKeys && high[1] >= kKeys) == 0xffffffffu;
    const uint8_t* keys = stages_ + which * Shape::kStageBytes;
    const uint8_t* values = keys + Shape::kKeyBytes;

    float s[kKeys / 8][4];
    KVASS_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
    KVASS_UNROLL
    for (int k = 0; k < kSteps; ++k) {
      uint32_t a[4];
      load_matrices(a, q_ + (warp_row_ + lane_ % 16) * Shape::kPitch + (k * 16 + lane_ / 16 * 8) * 2, false);
      KVASS_UNROLL
      for (int n = 0; n < kKeys / 16; ++n) {  // sixteen keys: two B of sixteen channels
        uint32_t b[4];
        if (p_.runs) {  // rows are channels k·16 + …, columns are keys
          const int row = k * 16 + lane_ % 16;
          load_matrices(b, keys + row * Shape::kColumnPitch + (n * 16 + lane_ / 16 * 8) * 2, true);
        } else {
          const int row = n * 16 + lane_ % 8 + lane_ / 16 * 8;
          load_matrices(b, keys + row * Shape::kPitch + (k * 16 + lane_ / 8 % 2 * 8) * 2, false);
        }
        M::multiply(s[2 * n], a, b[0], b[1]);
        M::multiply(s[2 * n + 1], a, b[2], b[3]);
      }
    }

    const bool mask = masked();
    const uint64_t valid = mask ? valid_[which] : ~uint64_t{0};
    float top[2] = {m[0], m[1]};
    KVASS_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {
      KVASS_UNROLL
      for (int i = 0; i < 4; ++i) {
        float x = s[n][i] * p_.scale;
        if (p_.softcap != 0.0f) x = kvass::softcap<D>(x, p_.softcap);
        const int key = n * 8 + 2 * t + i % 2;
        if (!whole || mask) {
          const bool seen = key >= low[i / 2] && key < high[i / 2] && (valid >> key & 1) != 0;
          x = seen ? x : -__builtin_inff();
        }
        s[n][i] = x;
        top[i / 2] = top[i / 2] < x ? x : top[i / 2];
      }
    }
    float base[2];  // m · log2 e
    KVASS_UNROLL
    for (int i = 0; i < 2; ++i) {
      for (int by = 1; by <= 2; by *= 2) {
        const float other = shuffle_xor(top[i], by);
        top[i] = top[i] < other ? other : top[i];
      }
      // A row that has seen nothing yet keeps −∞; its weights are 2^−∞ = 0.
      base[i] = top[i] == -__builtin_inff() ? 0.0f : top[i] * kLog2E;
      const float factor = m[i] == top[i] ? 1.0f : fast_exp2(fma_rn(m[i], kLog2E, -base[i]));
      m[i] = top[i];
      l[i] *= factor;
      KVASS_UNROLL
      for (int c = 0; c < kVectors; ++c) {
        o[c][2 * i] *= factor;
        o[c][2 * i + 1] *= factor;
      }
    }
    KVASS_UNROLL
    for (int n = 0; n < kKeys / 16; ++n) {
      uint32_t a[4];
      KVASS_UNROLL
      for (int half = 0; half < 2; ++half) {
        float(&x)[4] = s[2 * n + half];
        KVASS_UNROLL
        for (int i = 0; i < 4; ++i) {
          x[i] = fast_exp2(fma_rn(x[i], kLog2E, -base[i / 2]));
          l[i / 2] += x[i];
        }
        a[2 * half] = M::pack(x[0], x[1]);
        a[2 * half + 1] = M::pack(x[2], x[3]);
      }
      KVASS_UNROLL
      for (int c = 0; c < kVectors / 2; ++c) {  // sixteen channels: two B of sixteen keys
        uint32_t b[4];
        const int row = n * 16 + lane_ % 16;
        load_matrices(b, values + row * Shape::kPitch + (c * 16 + lane_ / 16 * 8) * 2, true);
        M::multiply(o[2 * c], a, b[0], b[1]);
        M::multiply(o[2 * c + 1], a, b[2], b[3]);
      }
    }
  }

  const DeviceAttentionParams& p_;
  const Item& item_;
  const int padded_;
  const int thread_, threads_;
  int rows_, warp_row_, lane_;
  uint8_t *stages_, *q_;
  int *low_, *high_;
  uint64_t* valid_;
  float* all_;
  int64_t tile_bytes_;
  Segment segment_;
  bool in_sink_ = false, fast_keys_ = false, fast_values_ = false;
  int64_t first_ = 0;
  int block_low_ = 0, block_high_ = 0;
};

}  // namespace
}  // namespace kvass::KVASS_DEVICE
