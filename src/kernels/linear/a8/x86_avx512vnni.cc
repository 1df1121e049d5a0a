// Activations of 8 bits: a unit of its own, because it takes long to compile.

// clang-format off
#include "kernels/simd/avx512vnni.h"  // first: the others are written over it
// clang-format on

#include "kernels/linear/byte_tiles.h"

namespace kvass::avx512vnni {

const LinearFunction linear_a8 = linear_bytes<V, ByteBlock<1>>;

}  // namespace kvass::avx512vnni
