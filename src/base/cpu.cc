#include "base/cpu.h"

#include <sched.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <string>

namespace kvass {
namespace {

constexpr Isa kBestFirst[] = {Isa::avx512vnni, Isa::avx2, Isa::neon, Isa::scalar};

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
  }
  return "?";
}

CpuFeatures detect_cpu_features() {
  CpuFeatures features;
#if defined(__x86_64__)
  __builtin_cpu_init();  // the compiler's run-time checks CPUID and XGETBV
  uint32_t a = 0, b = 0, c = 0, d = 0;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;  // the run-time checks of Clang lack it
  features.avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  features.avx512vnni = features.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
#if defined(KVASS_EMULATE_AVX512)
  features.avx512vnni = true;
#endif
#elif defined(__aarch64__)
  features.neon = true;
#endif
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
  }
  return false;
}

Result<Isa> choose_isa(const CpuFeatures& features, std::string_view forced) {
  for (Isa isa : kBestFirst) {
    if (forced.empty() && isa_available(isa, features)) return isa;
    if (forced == isa_name(isa)) {
      if (isa_available(isa, features)) return isa;
      return bad_input("KVASS_ISA", "an instruction set that this machine has", std::string(forced));
    }
  }
  return bad_input("KVASS_ISA", "scalar, avx2, avx512 or neon", std::string(forced));
}

Result<Isa> default_isa() {
  const char* forced = std::getenv("KVASS_ISA");
  return choose_isa(detect_cpu_features(), forced ? forced : "");
}

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? count : 1;
}

void pin_to_cpu(int index) {
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &usable) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

}  // namespace kvass
