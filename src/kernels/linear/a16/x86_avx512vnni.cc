// Activations of 16 bits: a unit of its own, because it takes long to compile.

// clang-format off
#include "kernels/simd/avx512vnni.h"  // first: the others are written over it
// clang-format on

#include "kernels/linear/byte_tiles.h"

namespace kvass::avx512vnni {

const LinearFunction linear_a16 = linear_bytes<V, ByteBlock<2>>;

}  // namespace kvass::avx512vnni
