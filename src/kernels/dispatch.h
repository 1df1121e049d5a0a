// Run-time choice of a kernel. A kernel folder declares its entry point once with KVASS_DECLARE_KERNEL. The instruction
// sets of this build are listed only here, best first. The set is an argument of the choice; there is no global state.
#pragma once

#include "base/cpu.h"

// A set that adds little to another uses the other's kernels if it has no unit of its own.
namespace kvass {
namespace neon {}
namespace dotprod {
using namespace neon;
}
namespace i8mm {
using namespace dotprod;
}
}  // namespace kvass

// Declares isa::name, the kernel's unit for an instruction set. For dotprod and i8mm, whose units are optional, it must
// stand before KVASS_DECLARE_KERNEL.
#define KVASS_DECLARE_UNIT(isa, Type, name) \
  namespace isa {                           \
  extern const Type name;                   \
  }

// Declares the units of every built instruction set, and `Type name_for(Isa)`: the kernel for that set, or the scalar
// reference if the set is not built.
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
