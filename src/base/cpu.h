// Which instruction sets this CPU and operating system support, and which one is used. Detection fills a CpuFeatures;
// choose_isa takes it as an argument, so that any choice can be tested on any machine.
#pragma once

#include <cstdint>
#include <string_view>

#include "kvass/status.h"

namespace kvass {

enum class Isa { scalar, avx2, avx512vnni, neon, dotprod, i8mm };
inline constexpr Isa kIsas[] = {Isa::scalar, Isa::avx2,    Isa::avx512vnni,
                                Isa::neon,   Isa::dotprod, Isa::i8mm};  // ascending: a later one is preferred
std::string_view isa_name(Isa isa);  // "scalar", "avx2", "avx512", "neon", "dotprod", "i8mm": the words of KVASS_ISA

struct CpuFeatures {
  bool avx2 = false;        // AVX2, FMA and F16C, with OS support
  bool avx512vnni = false;  // AVX-512 F, BW, DQ, VL and VNNI, with OS support
  bool neon = false;
  bool dotprod = false;  // NEON and FEAT_DotProd
  bool i8mm = false;     // NEON, FEAT_DotProd and FEAT_I8MM
};

CpuFeatures detect_cpu_features();

// The features in the words AT_HWCAP and AT_HWCAP2 of Linux on AArch64.
CpuFeatures aarch64_features(uint64_t hwcap, uint64_t hwcap2);

bool isa_available(Isa isa, const CpuFeatures& features);

// The best available set, or `forced` (a word of isa_name; empty: no force), which must be known and available.
Result<Isa> choose_isa(const CpuFeatures& features, std::string_view forced);

// choose_isa for this machine and the environment variable KVASS_ISA.
Result<Isa> default_isa();

// Logical CPUs that this process may run on (its affinity mask), at least 1.
int usable_cpus();

// Pins the calling thread to the index-th CPU of the affinity mask. If the system refuses, the thread is not pinned.
void pin_to_cpu(int index);

}  // namespace kvass
