// Run-time choice of a kernel. A kernel folder declares its entry point once with KVASS_DECLARE_KERNEL; the instruction sets
// that this build has are listed here, best first, and nowhere else. Choosing takes the set as an argument: nothing is global.
#pragma once

#include "base/cpu.h"

// Sets that add little to another look up there what they have no unit for.
namespace kvass {
namespace neon {}
namespace dotprod {
using namespace neon;
}
namespace i8mm {
using namespace dotprod;
}
}  // namespace kvass

// Declares isa::name, the kernel's unit in that set. Before KVASS_DECLARE_KERNEL for the sets that need not have one:
// dotprod and i8mm.
#define KVASS_DECLARE_UNIT(isa, Type, name) \
  namespace isa {                           \
  extern const Type name;                   \
  }

// Declares the units of each built instruction set, and `Type name_for(Isa)`: the kernel of that set, or the scalar
// reference where the set is not built.
#define KVASS_DECLARE_KERNEL(Type, name)                                         \
  KVASS_DECLARE_PER_ISA_(Type, name)                                             \
  KVASS_DECLARE_UNIT(scalar, Type, name)                                         \
  inline Type name##_for(Isa isa) {                                              \
    switch (isa) {                                                               \
      KVASS_CASE_PER_ISA_(name)                                                  \
      default: return scalar::name;                                              \
    }                                                                            \
  }

#if defined(__x86_64__)
#define KVASS_DECLARE_PER_ISA_(Type, name)   \
  KVASS_DECLARE_UNIT(avx512vnni, Type, name) \
  KVASS_DECLARE_UNIT(avx2, Type, name)
#define KVASS_CASE_PER_ISA_(name)                     \
  case Isa::avx512vnni: return avx512vnni::name;      \
  case Isa::avx2: return avx2::name;
#elif defined(__aarch64__)
#define KVASS_DECLARE_PER_ISA_(Type, name) KVASS_DECLARE_UNIT(neon, Type, name)
#define KVASS_CASE_PER_ISA_(name)             \
  case Isa::i8mm: return i8mm::name;          \
  case Isa::dotprod: return dotprod::name;    \
  case Isa::neon: return neon::name;
#else
#define KVASS_DECLARE_PER_ISA_(Type, name)
#define KVASS_CASE_PER_ISA_(name)
#endif
