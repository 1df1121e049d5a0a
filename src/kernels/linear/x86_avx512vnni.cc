// clang-format off
#include "kernels/simd/avx512vnni.h"  // first: the others are written over it
// clang-format on

#include "kernels/linear/byte_tiles.h"
#include "kernels/linear/generic_f32.h"
#include "kernels/linear/screen_panels.h"
#include "kernels/linear/x86_quantise.h"

namespace kvass::avx512vnni {

const QuantiseFunction quantise_a8 = quantise_rows<ByteBlock<1>>;
const QuantiseFunction quantise_a16 = quantise_rows<ByteBlock<2>>;
const LinearFunction linear_f32 = linear_floats<V, 8>;
const ScreenFunction screen_a8 = screen_panels<V, HighByteDots<V>, ByteBlock<1>>;
const ScreenFunction screen_a16 = screen_panels<V, HighByteDots<V>, ByteBlock<2>>;

}  // namespace kvass::avx512vnni
