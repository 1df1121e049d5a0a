// Run-time choice of a kernel. A kernel folder declares its entry point once with KVASS_DECLARE_KERNEL; the instruction sets
// that this build has are listed here, best first, and nowhere else. Choosing takes the set as an argument: nothing is global.
#pragma once

#include "base/cpu.h"

// Declares <isa>::name for each built instruction set, and `Type name_for(Isa)`: the kernel of that set, or the scalar
// reference where the set is not built.
#define KVASS_DECLARE_KERNEL(Type, name)                                         \
  KVASS_DECLARE_PER_ISA_(Type, name)                                             \
  namespace scalar {                                                             \
  extern const Type name;                                                        \
  }                                                                              \
  inline Type name##_for(Isa isa) {                                              \
    switch (isa) {                                                               \
      KVASS_CASE_PER_ISA_(name)                                                  \
      default: return scalar::name;                                              \
    }                                                                            \
  }

#if defined(__x86_64__)
#define KVASS_DECLARE_PER_ISA_(Type, name) \
  namespace avx512vnni {                   \
  extern const Type name;                  \
  }                                        \
  namespace avx2 {                         \
  extern const Type name;                  \
  }
#define KVASS_CASE_PER_ISA_(name)                     \
  case Isa::avx512vnni: return avx512vnni::name;      \
  case Isa::avx2: return avx2::name;
#elif defined(__aarch64__)
#define KVASS_DECLARE_PER_ISA_(Type, name) \
  namespace neon {                         \
  extern const Type name;                  \
  }
#define KVASS_CASE_PER_ISA_(name) case Isa::neon: return neon::name;
#else
#define KVASS_DECLARE_PER_ISA_(Type, name)
#define KVASS_CASE_PER_ISA_(name)
#endif
