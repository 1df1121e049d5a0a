// attention_fast: a warp owns sixteen rows and goes through their keys in tiles. Both products run on tensor cores:
//     s = (q · k) · scale, capped      m = max(m, the tile's s)      p = 2^((s − m) · log2 e), rounded to the keys'
//     type l, o = l, o · 2^((m_old − m) · log2 e);      l += p before its rounding;      o += p · v
// from scratch for every span of 512 keys; spans merge as in cuda_merge.h. A row's result does not depend on other
// rows: a block is one to four warps that share the keys they read (cuda_fast_stage.h), and decode and prefill compute
// the same sums. The exception: a key that a row does not see has p = 0, so if another row sees the key and its value
// is infinite or NaN, this row's result is not finite either.
#pragma once

#include "device/matrix.h"
#include "kernels/attention/cuda_fast_stage.h"
#include "kernels/functions.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr float kLog2E = 0x1.715476p+0f;

// The products on tensor cores for one type of keys.
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

template <class M, int kDim>
class Fast : private FastStages<kDim> {
  using Base = FastStages<kDim>;
  using Base::all_;
  using Base::block_high_;
  using Base::block_low_;
  using Base::first_;
  using Base::high_;
  using Base::in_sink_;
  using Base::item_;
  using Base::kKeys;
  using Base::lane_;
  using Base::low_;
  using Base::p_;
  using Base::q_;
  using Base::rows_;
  using Base::segment_;
  using Base::stages_;
  using Base::thread_;
  using Base::threads_;
  using Base::tile_bytes_;
  using Base::valid_;
  using Base::warp_row_;
  using typename Base::Shape;
  static constexpr int kSteps = kDim / 16;   // steps of a product over channels
  static constexpr int kVectors = kDim / 8;  // vectors of eight channels

 public:
  KVASS_METHOD Fast(const DeviceAttentionParams& p, const Item& item, int padded) : Base(p, item, padded) {}

  KVASS_METHOD int64_t tile_bytes() const { return tile_bytes_; }
  KVASS_METHOD float* all() const { return all_; }

  KVASS_METHOD void enter(const Segment& segment, bool in_sink) {
    segment_ = segment;
    in_sink_ = in_sink;
    barrier();
    // One warp for each row: its float32 values go to the memory of the stages and are rounded from there.
    float* row = reinterpret_cast<float*>(stages_) + thread_ / 32 * kDim;
    for (int r = thread_ / 32; r < rows_; r += threads_ / 32) {
      const int64_t at = item_.first + (r < item_.rows ? r : 0);
      load_query(p_, item_, at, in_sink, kDim, lane_, 32, row);
      warp_barrier();
      uint32_t* to = reinterpret_cast<uint32_t*>(q_ + r * Shape::kPitch);
      for (int d = lane_; d < kDim / 2; d += 32) to[d] = M::pack(row[2 * d], row[2 * d + 1]);
      warp_barrier();
    }
    this->look_at_rows();
    barrier();
  }

  // Computes o, and m and l of this thread's rows g and g + 8, for a span. False if no row of the block sees a key of
  // it.
  KVASS_METHOD bool run(int64_t span, float (&o)[kVectors][4], float (&m)[2], float (&l)[2]) {
    first_ = span * kSpanKeys;
    if (!this->look()) return false;
    KVASS_UNROLL
    for (int c = 0; c < kVectors; ++c) o[c][0] = o[c][1] = o[c][2] = o[c][3] = 0.0f;
    m[0] = m[1] = -__builtin_inff();
    l[0] = l[1] = 0.0f;
    const int begin = block_low_ / kKeys, end = (block_high_ + kKeys - 1) / kKeys;
    this->stage(begin, 0);
    KVASS_NO_UNROLL
    for (int tile = begin; tile < end; ++tile) {
      const int which = (tile - begin) % 2;
      if (tile + 1 < end) {
        this->stage(tile + 1, 1 - which);
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
  // Adds the keys of a tile to (o, m, l) of this warp's rows.
  KVASS_METHOD void attend(int tile, int which, float (&o)[kVectors][4], float (&m)[2], float (&l)[2]) {
    const int at = tile * kKeys;
    const int g = lane_ / 4;
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
    multiply_keys(keys, s);
    scale_and_mask(s, low, high, whole, which);
    float base[2];
    raise_maxima(s, base, o, m, l);
    add_values(values, s, base, o, l);
  }

  // s = q · k
  KVASS_METHOD void multiply_keys(const uint8_t* keys, float (&s)[kKeys / 8][4]) const {
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
  }

  // s = s · scale, capped; −∞ if this thread's row does not see the key. `whole`: the rows see every valid key.
  KVASS_METHOD void scale_and_mask(float (&s)[kKeys / 8][4], const int (&low)[2], const int (&high)[2], bool whole,
                                   int which) const {
    const int t = lane_ % 4;
    const bool mask = this->masked();
    const uint64_t valid = mask ? valid_[which] : ~uint64_t{0};
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
      }
    }
  }

  // Raises m to the tile's maximum and rescales o and l; base = m · log2 e.
  KVASS_METHOD void raise_maxima(const float (&s)[kKeys / 8][4], float (&base)[2], float (&o)[kVectors][4],
                                 float (&m)[2], float (&l)[2]) const {
    float top[2] = {m[0], m[1]};
    KVASS_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {
      KVASS_UNROLL
      for (int i = 0; i < 4; ++i) top[i / 2] = top[i / 2] < s[n][i] ? s[n][i] : top[i / 2];
    }
    KVASS_UNROLL
    for (int i = 0; i < 2; ++i) {
      for (int by = 1; by <= 2; by *= 2) {
        const float other = shuffle_xor(top[i], by);
        top[i] = top[i] < other ? other : top[i];
      }
      // A row that has seen no key yet keeps m = −∞; its weights are 2^−∞ = 0.
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
  }

  // s becomes p; l += p, o += p · v
  KVASS_METHOD void add_values(const uint8_t* values, float (&s)[kKeys / 8][4], const float (&base)[2],
                               float (&o)[kVectors][4], float (&l)[2]) const {
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
};

}  // namespace
}  // namespace kvass::KVASS_DEVICE
