#include "app/machine.h"

namespace kvass {
namespace {

// 256-bit vectors by the compiler's own extension: the baseline has them.
using Floats = float __attribute__((vector_size(32)));
using Words = uint64_t __attribute__((vector_size(32)));

constexpr int kChains = 10;  // enough to hide the latency of two units

}  // namespace

void read_bytes(const uint8_t* data, size_t bytes) {
  const Words* words = reinterpret_cast<const Words*>(data);
  Words a{}, b{};
  for (size_t i = 0; i < bytes / sizeof(Words); i += 2) {
    a |= words[i];
    b |= words[i + 1];
  }
  a |= b;
  asm volatile("" : : "m"(a));
}

#if defined(__x86_64__)
int64_t multiply_add_loop(int64_t rounds, bool integers) {
  if (!integers) {
    Floats chains[kChains] = {};
    Floats x = {1, 1, 1, 1, 1, 1, 1, 1};
    asm volatile("" : "+x"(x));
    for (int64_t i = 0; i < rounds; ++i) {
      for (Floats& chain : chains) asm volatile("vfmadd231ps %1, %1, %0" : "+x"(chain) : "x"(x));
    }
    return rounds * kChains * 8;
  }
  Words chains[kChains] = {};
  Words x = {1, 1, 1, 1};
  asm volatile("" : "+x"(x));
  for (int64_t i = 0; i < rounds; ++i) {
    for (Words& chain : chains) {
      Words product;
      asm volatile("vpmaddwd %1, %1, %0" : "=x"(product) : "x"(x));
      asm volatile("vpaddd %1, %0, %0" : "+x"(chain) : "x"(product));
    }
  }
  return rounds * kChains * 16;
}
#else
int64_t multiply_add_loop(int64_t rounds, bool) {
  float chains[kChains * 8] = {};
  float x = 1.0f;
  asm volatile("" : "+w"(x));
  for (int64_t i = 0; i < rounds; ++i) {
    for (float& chain : chains) chain = __builtin_fmaf(x, x, chain);
  }
  asm volatile("" : : "m"(chains));
  return rounds * kChains * 8;
}
#endif

}  // namespace kvass
