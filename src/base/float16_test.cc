// Half and bfloat16 conversions against the CPU's own and against the definition.
#include "base/float16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "seed.h"

namespace kvass {
namespace {

float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }
bool is_nan16(uint16_t half) { return (half & 0x7fffu) > 0x7c00u; }

// The value of a finite half, from the definition.
double half_value(uint16_t half) {
  const int exponent = half >> 10 & 31;
  const double mantissa = half & 1023;
  const double magnitude = exponent == 0 ? mantissa * 0x1p-24 : std::ldexp(1024.0 + mantissa, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

TEST(Float16, EveryHalfIsItsValueAndRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float value = f16_to_float(half);
    if (is_nan16(half)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(is_nan16(float_to_f16(value))) << bits;
      ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0) << bits;
      ASSERT_TRUE(is_nan16(float_to_f16_saturating(value))) << bits;
    } else if ((half & 0x7fff) == 0x7c00) {
      ASSERT_TRUE(std::isinf(value)) << bits;
      ASSERT_EQ(float_to_f16(value), half);
      ASSERT_EQ(float_to_f16_saturating(value), half - 1);
    } else {
      ASSERT_EQ(static_cast<double>(value), half_value(half)) << bits;
      ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0) << bits;
      ASSERT_EQ(float_to_f16(value), half) << bits;
      ASSERT_EQ(float_to_f16_saturating(value), half) << bits;
    }
  }
}

// Nearest of the two neighbours in double, ties to even: the definition, for every step between two halves.
TEST(Float16, HalfwayPointsGoToEvenAndTheirNeighboursToTheNearer) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const uint16_t low = static_cast<uint16_t>(bits);
    const uint16_t high = static_cast<uint16_t>(bits + 1);
    const float middle = static_cast<float>((half_value(low) + half_value(high)) / 2);  // exact: one more bit
    const uint16_t even = (low & 1) == 0 ? low : high;
    ASSERT_EQ(float_to_f16(middle), even) << bits;
    ASSERT_EQ(float_to_f16(std::nextafter(middle, 0.0f)), low) << bits;
    ASSERT_EQ(float_to_f16(std::nextafter(middle, INFINITY)), high) << bits;
    ASSERT_EQ(float_to_f16(-middle), even | 0x8000) << bits;
  }
}

TEST(Float16, OverflowIsInfinityOrSaturates) {
  EXPECT_EQ(float_to_f16(65504.0f), 0x7bff);
  EXPECT_EQ(float_to_f16(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  for (const float value : {65520.0f, 65536.0f, 1e30f, std::numeric_limits<float>::max(), INFINITY}) {
    EXPECT_EQ(float_to_f16(value), 0x7c00) << value;
    EXPECT_EQ(float_to_f16(-value), 0xfc00) << value;
    EXPECT_EQ(float_to_f16_saturating(value), 0x7bff) << value;
    EXPECT_EQ(float_to_f16_saturating(-value), 0xfbff) << value;
  }
  EXPECT_TRUE(is_nan16(float_to_f16_saturating(NAN)));
  EXPECT_TRUE(is_nan16(float_to_f16_saturating(-NAN)));
}

#if defined(__x86_64__)
void expect_as_the_cpu(uint32_t bits) {
  const float value = float_of(bits);
  const uint16_t cpu = static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
  ASSERT_EQ(float_to_f16(value), cpu) << std::hex << bits;
}

TEST(Float16, FloatToHalfEqualsTheCpuOnAllBoundaryPatterns) {
  // Every sign and exponent with every pattern of the bits around the rounding point.
  for (uint32_t top = 0; top < 512; ++top) {
    for (uint32_t kept = 0; kept < 1024; kept += (kept < 4 || kept > 1019) ? 1 : 73) {
      for (const uint32_t rest : {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x1800u, 0x1fffu}) {
        expect_as_the_cpu(top << 23 | kept << 13 | rest);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Float16, FloatToHalfEqualsTheCpuOnMillionsOfSamples) {
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 251) {  // 17 million, all exponents
    expect_as_the_cpu(static_cast<uint32_t>(bits));
    if (HasFatalFailure()) return;
  }
}

TEST(Float16, HalfToFloatEqualsTheCpuBitForBit) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float cpu = _cvtsh_ss(static_cast<uint16_t>(bits));
    ASSERT_EQ(std::bit_cast<uint32_t>(f16_to_float(static_cast<uint16_t>(bits))), std::bit_cast<uint32_t>(cpu)) << bits;
  }
}
#endif

TEST(Bfloat16, EveryPatternRoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float value = bf16_to_float(half);
    ASSERT_EQ(std::bit_cast<uint32_t>(value), bits << 16);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << bits;
    } else {
      ASSERT_EQ(float_to_bf16(value), half) << bits;
    }
  }
}

TEST(Bfloat16, RoundsToNearestEvenAndKeepsNan) {
  for (uint32_t low = 0; low < 0xff80; ++low) {
    if ((low & 0x7fff) >= 0x7f80) continue;  // infinities and NaN
    const uint32_t bits = low << 16;
    const uint16_t up = static_cast<uint16_t>(low + 1);
    ASSERT_EQ(float_to_bf16(float_of(bits | 0x7fff)), low);
    ASSERT_EQ(float_to_bf16(float_of(bits | 0x8000)), (low & 1) == 0 ? low : up);
    ASSERT_EQ(float_to_bf16(float_of(bits | 0x8001)), up);
  }
  // A NaN whose upper half alone would read as infinity.
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(float_of(0x7f800001)))));
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(float_of(0xffffffff)))));
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace kvass
