// Declares a formula over a lane set. It is always inlined, so that the unit of an instruction set defines no symbol
// that other units could use. Device compilers compile it for the device too.
#pragma once

#if defined(__CUDACC__) || defined(__HIPCC__)
#define KVASS_LANE_FN static __host__ __device__ __forceinline__
#else
#define KVASS_LANE_FN static inline __attribute__((always_inline))
#endif
