#include "kernels/linear/arm_dots.h"

namespace kvass::i8mm {
namespace {

using V = dotprod::V;

// Rows that share unpacked weights go through smmla: [2 rows][8 k] bytes times [2 outputs][8 k], twice the products of
// an sdot. Of 16-bit activations the high bytes are signed and the low ones unsigned (usmmla): both as they lie.
struct Dot {
  using I = V::I;
  static constexpr bool kMultipliesParts = true;

  template <WeightType, class Block>
  static consteval int tile_rows() {
    return kIs8<Block> ? 4 : 2;  // sixteen accumulators
  }
  template <WeightType>
  KVASS_INLINE I encode8(I w) {
    return w;
  }

  // Unpacked quants: [4 times 8 k's][8 pairs of outputs][2 outputs][8 k] bytes, the k's as the activations lie. Groups
  // 2 g and 2 g + 1 are unpacked with the first of them.
  template <WeightType kType, int kGroup, class Block>
  KVASS_INLINE void unpack_group(const typename Unpack<V, kType>::Block& quants, UnpackedBlock<Block>& out) {
    if constexpr (kGroup % 2 == 0) {
      unpack_eight<Block>(centred<kType>(Unpack<V, kType>::template group<kGroup>(quants)),
                          centred<kType>(Unpack<V, kType>::template group<kGroup + 1>(quants)),
                          reinterpret_cast<int8_t*>(out.quants) + kGroup * kGroupBytes);
    }
  }

  template <WeightType kType, int kPart, int kRows, class Source, class Block>
  KVASS_INLINE void multiply_part(Source source, int64_t b, const Block* x, int64_t x_stride, I (&dots)[kRows]) {
    if constexpr (Source::kCentred) {
      multiply_pairs<kType, kPart>(source.blocks[b], x + b, x_stride, dots);
    } else {
      dot_part<kType, kPart>(source, b, x, x_stride, dots);
    }
  }

 private:
  static constexpr int kOutputPairs = kPanelOutputs / 2;
  using Sums = int32x4_t[kOutputPairs];  // [2 rows][2 outputs] each

  template <class Block>
  KVASS_INLINE void unpack_eight(I x, I y, int8_t* to) {
    static constexpr uint8_t kEight[16] = {0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23};
    static constexpr uint8_t kSixteen[16] = {0, 2, 1, 3, 16, 18, 17, 19, 4, 6, 5, 7, 20, 22, 21, 23};
    const uint8x16_t first = vld1q_u8(kIs8<Block> ? kEight : kSixteen);
    const uint8x16_t second = vaddq_u8(first, vdupq_n_u8(8));
    const auto store = [&](int four, int32x4_t low, int32x4_t high) __attribute__((always_inline)) {
      const int8x16x2_t both = {{signed_bytes(low), signed_bytes(high)}};
      vst1q_s8(to + four * 32, vqtbl2q_s8(both, first));
      vst1q_s8(to + four * 32 + 16, vqtbl2q_s8(both, second));
    };
    store(0, x.a, y.a);
    store(1, x.b, y.b);
    store(2, x.c, y.c);
    store(3, x.d, y.d);
  }

  // A last row without a partner is its own.
  template <WeightType kType, int kPart, int kRows, class Block>
  KVASS_INLINE void multiply_pairs(const UnpackedBlock<Block>& w, const Block* x, int64_t x_stride, I (&dots)[kRows]) {
    constexpr int kParts = kBlock / panel_format(kType).scale_block;
    constexpr int kPairs = (kRows + 1) / 2;
    const int8_t* quants = reinterpret_cast<const int8_t*>(w.quants);
    asm volatile("" : : : "memory");  // as in dot_part
    Sums low[kPairs], high[kPairs];
    for (int p = 0; p < kPairs; ++p) {
      for (int j = 0; j < kOutputPairs; ++j) low[p][j] = high[p][j] = vdupq_n_s32(0);
    }
    unroll<4 / kParts>([&](auto step) __attribute__((always_inline)) {
      constexpr int kStep = kPart * 2 + decltype(step)::value;
      int8x16_t a[kPairs], b[kPairs];
      unroll<kPairs>([&](auto pair) __attribute__((always_inline)) {
        constexpr int p = decltype(pair)::value;
        const auto* q = x[2 * p * x_stride].q;
        const auto* r = x[(2 * p + 1 < kRows ? 2 * p + 1 : 2 * p) * x_stride].q;
        if constexpr (kIs8<Block>) {
          const int64x2_t even = vreinterpretq_s64_s8(vld1q_s8(q + kStep / 2 * 16));
          const int64x2_t odd = vreinterpretq_s64_s8(vld1q_s8(r + kStep / 2 * 16));
          a[p] = vreinterpretq_s8_s64(kStep % 2 == 0 ? vzip1q_s64(even, odd) : vzip2q_s64(even, odd));
        } else {
          const int8x16_t even = signed_bytes(vld1q_s16(q + kStep * 8));
          const int8x16_t odd = signed_bytes(vld1q_s16(r + kStep * 8));
          a[p] = vuzp1q_s8(even, odd);
          b[p] = vuzp2q_s8(even, odd);
        }
      });
      unroll<kOutputPairs>([&](auto outputs) __attribute__((always_inline)) {
        constexpr int j = decltype(outputs)::value;
        const int8x16_t weights = vld1q_s8(quants + (kStep * kOutputPairs + j) * 16);
        unroll<kPairs>([&](auto pair) __attribute__((always_inline)) {
          constexpr int p = decltype(pair)::value;
          if constexpr (kIs8<Block>) {
            low[p][j] = vmmlaq_s32(low[p][j], a[p], weights);
          } else {
            low[p][j] = vusmmlaq_s32(low[p][j], vreinterpretq_u8_s8(a[p]), weights);
            high[p][j] = vmmlaq_s32(high[p][j], b[p], weights);
          }
        });
      });
    });
    unroll<kRows>([&](auto row) __attribute__((always_inline)) {
      constexpr int r = decltype(row)::value;
      const auto four = [&](int j) __attribute__((always_inline)) {
        const int64x2_t two = vreinterpretq_s64_s32(sum(low[r / 2], high[r / 2], j));
        const int64x2_t next = vreinterpretq_s64_s32(sum(low[r / 2], high[r / 2], j + 1));
        return vreinterpretq_s32_s64(r % 2 == 0 ? vzip1q_s64(two, next) : vzip2q_s64(two, next));
      };
      dots[r] = {four(0), four(2), four(4), four(6)};
    });
  }
  KVASS_INLINE int32x4_t sum(const Sums& low, const Sums& high, int j) { return low[j] + (high[j] << 8); }
};

}  // namespace

const LinearFunction linear_a8 = linear<V, Dot, ActivationBlock8>;
const LinearFunction linear_a16 = linear<V, Dot, ActivationBlock16>;

}  // namespace kvass::i8mm
