// clang-format off
#include "kernels/simd/avx512vnni.h"  // first: the others are written over it
// clang-format on

#include "kernels/linear/generic.h"
#include "kernels/linear/generic_f32.h"
#include "kernels/linear/x86_quantise.h"

namespace kvass::avx512vnni {
namespace {

// Integer dots with vpdpbusd (unsigned weights, signed activations) and vpdpwssd, both exact in int32.
struct Dot {
  using I = V::I;

  template <WeightType, class Block>
  static consteval int tile_rows() {
    return 8;
  }

  template <bool kSigned>
  KVASS_INLINE I even16(I w) {
    if constexpr (!kSigned) return V::andi(w, V::set1i(0x00ff00ff));
    return _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8);
  }
  template <bool kSigned>
  KVASS_INLINE I odd16(I w) {
    if constexpr (!kSigned) return _mm512_srli_epi16(w, 8);
    return _mm512_srai_epi16(w, 8);
  }
  KVASS_INLINE I centre16(I w, int offset) {
    return _mm512_sub_epi16(w, _mm512_set1_epi16(static_cast<int16_t>(offset)));
  }
  KVASS_INLINE I madd16(I acc, I w, I a) { return dot_words(acc, w, a); }

  template <WeightType kType>
  KVASS_INLINE I encode8(I w) {  // Q8_0 becomes unsigned: w + 128
    if constexpr (kType == WeightType::Q8_0) return _mm512_xor_si512(w, V::set1i(static_cast<int>(0x80808080u)));
    return w;
  }
  template <WeightType kType>
  KVASS_INLINE I start8([[maybe_unused]] const ActivationBlock8& block, [[maybe_unused]] int part) {
    constexpr int kOffset = kType == WeightType::Q8_0 ? 128 : panel_format(kType).offset;
    if constexpr (kOffset == 0) return V::zeroi();
    const I pairs = V::set1i(load_four(block.negated_pair_sums[part]));
    return dot_words(V::zeroi(), pairs, _mm512_set1_epi16(kOffset));
  }
  template <WeightType>
  KVASS_INLINE I add8(I acc, I w, I a) {
    return dot_bytes(acc, w, a);
  }
  template <WeightType>
  KVASS_INLINE I finish8(I acc, const ActivationBlock8&, int) {
    return acc;
  }
};

}  // namespace

const QuantiseFunction quantise_a8 = quantise_rows<ActivationBlock8>;
const QuantiseFunction quantise_a16 = quantise_rows<ActivationBlock16>;
const LinearFunction linear_f32 = linear_floats<V, 8>;
const LinearFunction linear_a8 = linear<V, Dot, ActivationBlock8>;
const LinearFunction linear_a16 = linear<V, Dot, ActivationBlock16>;

}  // namespace kvass::avx512vnni
