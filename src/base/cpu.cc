#include "base/cpu.h"

#include <cstdlib>
#include <iterator>
#include <string>

#include "base/platform.h"

namespace kvass {
namespace {

// The bits of Linux's asm/hwcap.h for AArch64.
constexpr uint64_t kAsimd = 1u << 1;
constexpr uint64_t kAsimdDotProducts = 1u << 20;
constexpr uint64_t kInt8Matrix2 = 1u << 13;  // in the second word

std::string names_of_all() {  // "a, b or c"
  std::string names;
  for (size_t i = 0; i < std::size(kIsas); ++i) {
    if (i > 0) names += i + 1 < std::size(kIsas) ? ", " : " or ";
    names += isa_name(kIsas[i]);
  }
  return names;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512vnni:
      return "avx512";
    case Isa::neon:
      return "neon";
    case Isa::dotprod:
      return "dotprod";
    case Isa::i8mm:
      return "i8mm";
  }
  return "?";
}

CpuFeatures detect_cpu_features() {
  CpuFeatures features = platform::cpu_features();
#if defined(KVASS_EMULATE_AVX512)
  features.avx512vnni = true;
#endif
  return features;
}

CpuFeatures aarch64_features(uint64_t hwcap, uint64_t hwcap2) {
  CpuFeatures features;
  features.neon = (hwcap & kAsimd) != 0;
  features.dotprod = features.neon && (hwcap & kAsimdDotProducts) != 0;
  features.i8mm = features.dotprod && (hwcap2 & kInt8Matrix2) != 0;
  return features;
}

bool isa_available(Isa isa, const CpuFeatures& features) {
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      return features.avx2;
    case Isa::avx512vnni:
      return features.avx512vnni;
    case Isa::neon:
      return features.neon;
    case Isa::dotprod:
      return features.dotprod;
    case Isa::i8mm:
      return features.i8mm;
  }
  return false;
}

Result<Isa> choose_isa(const CpuFeatures& features, std::string_view forced) {
  for (size_t i = std::size(kIsas); i-- > 0;) {
    const Isa isa = kIsas[i];
    if (forced.empty() && isa_available(isa, features)) return isa;
    if (forced == isa_name(isa)) {
      if (isa_available(isa, features)) return isa;
      return bad_input("KVASS_ISA", "an instruction set that this machine has", std::string(forced));
    }
  }
  return bad_input("KVASS_ISA", names_of_all(), std::string(forced));
}

Result<Isa> default_isa() {
  const char* forced = std::getenv("KVASS_ISA");
  return choose_isa(detect_cpu_features(), forced ? forced : "");
}

int usable_cpus() { return platform::usable_cpus(); }

void pin_to_cpu(int index) { platform::pin_to_cpu(index); }

}  // namespace kvass
