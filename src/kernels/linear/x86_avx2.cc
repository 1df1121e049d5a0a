// clang-format off
#include "kernels/linear/x86_avx2_dots.h"  // first: the others are written over its lanes
// clang-format on

#include "kernels/linear/generic_f32.h"
#include "kernels/linear/screen_panels.h"
#include "kernels/linear/x86_quantise.h"

namespace kvass::avx2 {

const QuantiseFunction quantise_a8 = quantise_rows<ActivationBlock8>;
const QuantiseFunction quantise_a16 = quantise_rows<ActivationBlock16>;
const LinearFunction linear_f32 = linear_floats<V, 6>;
const ScreenFunction screen_a8 = screen_panels<V, ScreenDots<V, Dot>, ActivationBlock8>;
const ScreenFunction screen_a16 = screen_panels<V, ScreenDots<V, Dot>, ActivationBlock16>;

}  // namespace kvass::avx2
