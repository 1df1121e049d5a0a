#include "kernels/linear/arm_dots.h"

namespace kvass::dotprod {
namespace {

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
  template <WeightType kType, int kGroup, class Block>
  KVASS_INLINE void unpack_group(const typename Unpack<V, kType>::Block& quants, UnpackedBlock<Block>& out) {
    I w = centred<kType>(Unpack<V, kType>::template group<kGroup>(quants));
    if constexpr (!kIs8<Block>) {
      const auto order = [](int32x4_t x) { return vreinterpretq_s32_s8(as_words_lie(signed_bytes(x))); };
      w = {order(w.a), order(w.b), order(w.c), order(w.d)};
    }
    V::storei(out.quants[kGroup], w);
  }
  template <WeightType kType, int kPart, int kRows, class Source, class Block>
  KVASS_INLINE void multiply_part(Source source, int64_t b, const Block* x, int64_t x_stride, I (&dots)[kRows]) {
    dot_part<kType, kPart>(source, b, x, x_stride, dots);
  }
};

}  // namespace

const LinearFunction linear_a8 = linear<V, Dot, ActivationBlock8>;
const LinearFunction linear_a16 = linear<V, Dot, ActivationBlock16>;

}  // namespace kvass::dotprod
