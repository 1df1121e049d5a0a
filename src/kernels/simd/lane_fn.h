// How a formula over a lane set is declared: always inlined, so that no unit of an instruction set defines a symbol for
// others; on a device's compiler for the device as well.
#pragma once

#if defined(__CUDACC__) || defined(__HIPCC__)
#define KVASS_LANE_FN static __host__ __device__ __forceinline__
#else
#define KVASS_LANE_FN static inline __attribute__((always_inline))
#endif
