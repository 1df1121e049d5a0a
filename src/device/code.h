// The language of device code: one source that nvcc, hipcc and the C++ compiler (with device/emulate.h) compile. A .cu
// file includes this first and puts everything into the namespace kvass::KVASS_DEVICE, which is cuda, rocm or emulated,
// so that one program can hold all three. Owns nothing.
//
// Rules: kernels take their arguments as one struct by value. Shared memory is dynamic (shared_memory()), never static.
// Every float operation that reaches an exact result is a function of D (device/lane.h) or a plain + − · ÷, which are
// never contracted (-fmad=false, -ffp-contract=off). For every function here a warp has 32 lanes; on devices with wider
// warps, two of these share one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/runtime.h"

#if defined(KVASS_EMULATE_CUDA)
#define KVASS_DEVICE emulated
#include "device/emulate.h"
#elif defined(__HIPCC__)
#define KVASS_DEVICE rocm
#include "device/native.h"
#else
#define KVASS_DEVICE cuda
#include "device/native.h"
#endif
