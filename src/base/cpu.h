// Which instruction sets this CPU and operating system run, and the one that was chosen. Detection fills a CpuFeatures;
// choosing takes it as an argument, so that any choice can be tested on any machine.
#pragma once

#include <string_view>

#include "kvass/status.h"

namespace kvass {

enum class Isa { scalar, avx2, avx512vnni, neon };
std::string_view isa_name(Isa isa);  // "scalar", "avx2", "avx512", "neon": the words of KVASS_ISA

struct CpuFeatures {
  bool avx2 = false;        // AVX2, FMA and F16C, with OS support
  bool avx512vnni = false;  // AVX-512 F, BW, DQ, VL and VNNI, with OS support
  bool neon = false;
};

CpuFeatures detect_cpu_features();
bool isa_available(Isa isa, const CpuFeatures& features);

// The best available set, or `forced` (a word of isa_name; empty: no force), which must be known and available.
Result<Isa> choose_isa(const CpuFeatures& features, std::string_view forced);

// choose_isa for this machine and the environment variable KVASS_ISA.
Result<Isa> default_isa();

// Logical CPUs that this process may run on (its affinity mask), at least 1.
int usable_cpus();

// Keeps the calling thread on the index-th of those; where the system refuses, it stays free.
void pin_to_cpu(int index);

}  // namespace kvass
