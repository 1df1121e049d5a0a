#include "base/float_env.h"

#include <gtest/gtest.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvass {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kFlushAndRoundDown = 0x1f80 | 0x8000 | 0x0040 | 0x2000;  // FTZ, DAZ, toward −infinity

TEST(FloatEnvironment, KeepsDenormalsInsideAndRestoresTheCallersOutside) {
  const uint32_t before = _mm_getcsr();
  _mm_setcsr(kFlushAndRoundDown);
  {
    FloatEnvironment environment;
    volatile float small = 1e-38f;
    volatile float result = small * 0.5f;
    EXPECT_GT(result, 0.0f);
    EXPECT_EQ(_mm_getcsr() & 0xffc0u, 0x1f80u);
    {
      FloatEnvironment nested;
      EXPECT_EQ(_mm_getcsr() & 0xffc0u, 0x1f80u);
    }
    EXPECT_EQ(_mm_getcsr() & 0xffc0u, 0x1f80u);
  }
  EXPECT_EQ(_mm_getcsr() & 0xffc0u, kFlushAndRoundDown & 0xffc0u);
  _mm_setcsr(before);
}
#endif

}  // namespace
}  // namespace kvass
