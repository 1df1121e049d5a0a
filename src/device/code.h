// The language of device code: one text that nvcc, hipcc and the C++ compiler (over device/emulate.h) translate. A .cu
// file includes this first and puts everything into the namespace kvass::KVASS_DEVICE, which is cuda, rocm or emulated,
// so that the three may stand in one program. Owns nothing.
//
// Rules: kernels take their arguments as one struct by value; shared memory is dynamic (shared_memory()), never static;
// every float operation that reaches an exact result is one of D (device/lane.h) or a plain + − · ÷, which contract
// nowhere (-fmad=false, -ffp-contract=off). Warps have 32 lanes for every function here; on devices whose warps are
// wider two of ours share one.
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
