#include "base/float_env.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A project that has kvass inside hands it the flags of its own; these would change every result.
#if defined(__FAST_MATH__)
#error "kvass is compiled without fast math: expected no flag that allows it (docs/numerics.md)"
#endif

namespace kvass {

#if defined(__x86_64__)
FloatEnvironment::FloatEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
FloatEnvironment::~FloatEnvironment() { _mm_setcsr(static_cast<uint32_t>(saved_)); }
#elif defined(__aarch64__)
FloatEnvironment::FloatEnvironment() {
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
}
FloatEnvironment::~FloatEnvironment() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
#error "kvass runs on x86-64 (v3 and up) and AArch64"
#endif

}  // namespace kvass
