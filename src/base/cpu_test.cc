#include "base/cpu.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace kvass {
namespace {

TEST(Cpu, TheBestAvailableSetIsChosenFromTheFeatures) {
  EXPECT_EQ(choose_isa({}, "").value(), Isa::scalar);
  EXPECT_EQ(choose_isa({.avx2 = true}, "").value(), Isa::avx2);
  EXPECT_EQ(choose_isa({.avx2 = true, .avx512vnni = true}, "").value(), Isa::avx512vnni);
  EXPECT_EQ(choose_isa({.neon = true}, "").value(), Isa::neon);
  EXPECT_EQ(choose_isa({.neon = true, .dotprod = true}, "").value(), Isa::dotprod);
  EXPECT_EQ(choose_isa({.neon = true, .dotprod = true, .i8mm = true}, "").value(), Isa::i8mm);
}

TEST(Cpu, EachSetOfAArch64NeedsItsBitAndThoseOfTheSetsBeforeIt) {
  constexpr uint64_t kAsimd = uint64_t{1} << 1, kDotProducts = uint64_t{1} << 20, kInt8Matrix2 = uint64_t{1} << 13;
  const auto best = [](uint64_t hwcap, uint64_t hwcap2) {
    return choose_isa(aarch64_features(hwcap, hwcap2), "").value();
  };
  EXPECT_EQ(best(kAsimd, 0), Isa::neon);
  EXPECT_EQ(best(kAsimd | kDotProducts, 0), Isa::dotprod);
  EXPECT_EQ(best(kAsimd | kDotProducts, kInt8Matrix2), Isa::i8mm);
  EXPECT_EQ(best(~kDotProducts, ~uint64_t{0}), Isa::neon);
  EXPECT_EQ(best(~uint64_t{0}, ~kInt8Matrix2), Isa::dotprod);
  EXPECT_EQ(best(~kAsimd, ~uint64_t{0}), Isa::scalar);
}

TEST(Cpu, AForcedSetIsTakenWhereItIsAvailableAndRefusedWhereNot) {
  const CpuFeatures all{.avx2 = true, .avx512vnni = true};
  EXPECT_EQ(choose_isa(all, "scalar").value(), Isa::scalar);
  EXPECT_EQ(choose_isa(all, "avx2").value(), Isa::avx2);
  EXPECT_EQ(choose_isa(all, "avx512").value(), Isa::avx512vnni);
  const Result<Isa> missing = choose_isa({.avx2 = true}, "avx512");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(choose_isa({.neon = true, .dotprod = true, .i8mm = true}, "dotprod").value(), Isa::dotprod);
  EXPECT_FALSE(choose_isa({.neon = true, .dotprod = true}, "i8mm").ok());
  EXPECT_NE(missing.status().message().find("KVASS_ISA"), std::string::npos);
  EXPECT_NE(missing.status().message().find("avx512"), std::string::npos);
  const Result<Isa> unknown = choose_isa(all, "sse9");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("scalar, avx2, avx512, neon, dotprod or i8mm"), std::string::npos);
  EXPECT_NE(unknown.status().message().find("sse9"), std::string::npos);
  EXPECT_FALSE(choose_isa(all, "AVX2").ok());
}

TEST(Cpu, AMachineThatIsKnownHasTheSetThatItShouldHave) {
  const char* expected = std::getenv("KVASS_EXPECTED_ISA");  // the emulated machines of tests/CMakeLists.txt
  if (!expected) GTEST_SKIP() << "KVASS_EXPECTED_ISA is not set";
  EXPECT_EQ(isa_name(choose_isa(detect_cpu_features(), "").value()), expected);
}

TEST(Cpu, ThisMachineHasAtLeastTheScalarSetAndOneCpu) {
  const CpuFeatures features = detect_cpu_features();
  EXPECT_TRUE(isa_available(Isa::scalar, features));
  EXPECT_TRUE(isa_available(choose_isa(features, "").value(), features));
  EXPECT_GE(usable_cpus(), 1);
  if (features.avx512vnni) {
    EXPECT_TRUE(features.avx2);
  }
}

}  // namespace
}  // namespace kvass
