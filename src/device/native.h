// device/code.h for device compilers: CUDA and HIP under the same names.
#pragma once

#include <string>

#if defined(__HIPCC__)
#include <hip/hip_fp16.h>
#include <hip/hip_runtime.h>
#define KVASS_RUNTIME(name) hip##name
#else
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define KVASS_RUNTIME(name) cuda##name
#endif

#define KVASS_KERNEL __global__
#define KVASS_DEVICE_FN static __device__ __forceinline__
#define KVASS_BOTH_FN static __host__ __device__ __forceinline__
// A method of a struct for device code.
#define KVASS_METHOD __device__ __forceinline__
#define KVASS_DEVICE_STATIC static __device__ __forceinline__
#define KVASS_BOTH __host__ __device__ __forceinline__
#define KVASS_BLOCK_THREADS(most) __launch_bounds__(most)
#define KVASS_UNROLL _Pragma("unroll")
#define KVASS_NO_UNROLL _Pragma("unroll 1")

namespace kvass::KVASS_DEVICE {

KVASS_DEVICE_FN int thread_index() { return static_cast<int>(threadIdx.x); }
KVASS_DEVICE_FN int block_threads() { return static_cast<int>(blockDim.x); }
KVASS_DEVICE_FN int64_t block_x() { return static_cast<int64_t>(blockIdx.x); }
KVASS_DEVICE_FN int64_t block_y() { return static_cast<int64_t>(blockIdx.y); }
KVASS_DEVICE_FN int64_t block_z() { return static_cast<int64_t>(blockIdx.z); }
KVASS_DEVICE_FN int64_t grid_x() { return static_cast<int64_t>(gridDim.x); }

// The block's shared memory, 128-byte aligned.
KVASS_DEVICE_FN uint8_t* shared_memory() {
  extern __shared__ __align__(128) unsigned char kvass_shared[];
  return kvass_shared;
}
KVASS_DEVICE_FN void barrier() { __syncthreads(); }

// Exchanges within a warp of 32 lanes; all lanes must call. Lanes exchange within groups of `width`, a power of two.
#if defined(__HIPCC__)
template <class T>
KVASS_DEVICE_FN T shuffle(T x, int lane, int width = 32) {
  return __shfl(x, lane, width);
}
template <class T>
KVASS_DEVICE_FN T shuffle_down(T x, int by, int width = 32) {
  return __shfl_down(x, by, width);
}
template <class T>
KVASS_DEVICE_FN T shuffle_xor(T x, int mask, int width = 32) {
  return __shfl_xor(x, mask, width);
}
// Bit = lane of the warp of 32.
KVASS_DEVICE_FN uint32_t ballot(bool x) {
  const unsigned long long all = __ballot(x);
  return static_cast<uint32_t>(all >> (__lane_id() & 32u));
}
// The barrier does not order memory. The fences make writes before it visible to reads after it.
KVASS_DEVICE_FN void warp_barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}
#else
template <class T>
KVASS_DEVICE_FN T shuffle(T x, int lane, int width = 32) {
  return __shfl_sync(0xffffffffu, x, lane, width);
}
template <class T>
KVASS_DEVICE_FN T shuffle_down(T x, int by, int width = 32) {
  return __shfl_down_sync(0xffffffffu, x, by, width);
}
template <class T>
KVASS_DEVICE_FN T shuffle_xor(T x, int mask, int width = 32) {
  return __shfl_xor_sync(0xffffffffu, x, mask, width);
}
KVASS_DEVICE_FN uint32_t ballot(bool x) { return __ballot_sync(0xffffffffu, x); }
KVASS_DEVICE_FN void warp_barrier() { __syncwarp(); }
#endif

// An asynchronous copy of 16 bytes from global to shared memory, both aligned to 16 bytes. copy_commit closes a group
// of copies; copy_wait<n> returns when all but the last n groups of this thread have arrived.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
KVASS_DEVICE_FN void copy_async(void* to_shared, const void* from_global) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(to), "l"(from_global) : "memory");
}
KVASS_DEVICE_FN void copy_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kLeft>
KVASS_DEVICE_FN void copy_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}
#else
KVASS_DEVICE_FN void copy_async(void* to_shared, const void* from_global) {
  *static_cast<uint4*>(to_shared) = *static_cast<const uint4*>(from_global);
}
KVASS_DEVICE_FN void copy_commit() {}
template <int kLeft>
KVASS_DEVICE_FN void copy_wait() {}
#endif

// Exact integer dot of four signed bytes, added to `sum`.
KVASS_DEVICE_FN int32_t dot4(int32_t a, int32_t b, int32_t sum) {
#if defined(__HIPCC__)
  for (int i = 0; i < 32; i += 8) sum += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return sum;
#else
  return __dp4a(a, b, sum);
#endif
}

KVASS_DEVICE_FN int count_ones(uint64_t x) { return __popcll(x); }
KVASS_DEVICE_FN float f16_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
KVASS_DEVICE_FN uint16_t float_to_f16(float x) { return __half_as_ushort(__float2half_rn(x)); }
KVASS_DEVICE_FN float float_from_bits(uint32_t bits) { return __uint_as_float(bits); }
KVASS_DEVICE_FN uint32_t bits_of_float(float x) { return __float_as_uint(x); }

// One rounding each, to nearest even, denormals kept.
KVASS_DEVICE_FN float fma_rn(float a, float b, float c) { return __fmaf_rn(a, b, c); }
KVASS_DEVICE_FN float add_rn(float a, float b) { return __fadd_rn(a, b); }
KVASS_DEVICE_FN float sub_rn(float a, float b) { return __fsub_rn(a, b); }
KVASS_DEVICE_FN float mul_rn(float a, float b) { return __fmul_rn(a, b); }
KVASS_DEVICE_FN float div_rn(float a, float b) { return __fdiv_rn(a, b); }
#if defined(__HIPCC__)
// HIP's __fsqrt_rn is the hardware's approximation. With the flags of this build sqrtf rounds correctly.
KVASS_DEVICE_FN float sqrt_rn(float x) { return sqrtf(x); }
#else
KVASS_DEVICE_FN float sqrt_rn(float x) { return __fsqrt_rn(x); }
#endif
KVASS_DEVICE_FN float rint_rn(float x) { return rintf(x); }
KVASS_DEVICE_FN double fma_rn(double a, double b, double c) { return __fma_rn(a, b, c); }

inline Status status_of(KVASS_RUNTIME(Error_t) error, const char* what) {
  if (error == KVASS_RUNTIME(Success)) return {};
#if defined(__HIPCC__)
  const bool memory = error == hipErrorOutOfMemory;
#else
  const bool memory = error == cudaErrorMemoryAllocation;
#endif
  return Status::error(memory ? StatusCode::out_of_memory : StatusCode::device,
                       std::string(what) + ": " + KVASS_RUNTIME(GetErrorString)(error));
}

struct Grid {
  int64_t x = 1, y = 1, z = 1;  // y and z below 65,536
};

// Runs kernel(params) on `stream`: grid blocks of `threads`, each with `shared` bytes.
template <class Params>
Status launch(void (*kernel)(Params), const char* name, Grid grid, int threads, size_t shared, DeviceStream stream,
              const Params& params) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  constexpr size_t kWithoutAsking = 48 << 10;
  if (shared > kWithoutAsking) {
    const auto error = KVASS_RUNTIME(FuncSetAttribute)(reinterpret_cast<const void*>(kernel),
                                                       KVASS_RUNTIME(FuncAttributeMaxDynamicSharedMemorySize),
                                                       static_cast<int>(shared));
    if (error != KVASS_RUNTIME(Success)) return status_of(error, name);
  }
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z));
  kernel<<<blocks, dim3(static_cast<unsigned>(threads)), shared, static_cast<KVASS_RUNTIME(Stream_t)>(stream)>>>(
      params);
  return status_of(KVASS_RUNTIME(GetLastError)(), name);
}

}  // namespace kvass::KVASS_DEVICE
