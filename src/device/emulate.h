// device/code.h on the CPU, for tests and for machines without a device. Each thread of a block is a fiber. Fibers run
// one at a time and switch at barriers and at exchanges within a warp, in an order that changes from round to round.
// Float operations are the host's; they give the same bits. Errors that a device shows only sometimes always show here:
// shared memory begins as NaN, asynchronous copies arrive only when they are waited for, and a barrier that not every
// thread of the block (or lane of the warp) reaches ends the program with a message. Not fast, and not a timing model.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "base/float16.h"
#include "device/runtime.h"

#define KVASS_KERNEL static
#define KVASS_DEVICE_FN static inline
#define KVASS_BOTH_FN static inline
#define KVASS_METHOD inline
#define KVASS_DEVICE_STATIC static inline
#define KVASS_BOTH inline
#define KVASS_BLOCK_THREADS(most)
#define KVASS_UNROLL
#define KVASS_NO_UNROLL

namespace kvass::emulated {

struct Grid {
  int64_t x = 1, y = 1, z = 1;  // y and z below 65,536
};

// The indices of the running fiber.
struct Place {
  int thread = 0;
  int threads = 0;  // threads of the block
  Grid block, grid;
  uint8_t* shared = nullptr;
};
const Place& place();

// The operations at which the lanes of a warp wait for each other.
enum class Meeting : uint8_t { shuffle, ballot, warp_barrier, matrix };

constexpr size_t kExchangeBytes = 64;
// Publishes `bytes` to the other lanes of the warp and waits for them. Then exchanged(lane) is that lane's data, until
// the next call.
void exchange(Meeting meeting, const void* from, size_t bytes);
const void* exchanged(int lane);

void barrier();
void copy_async(void* to_shared, const void* from_global);
void copy_commit();
void wait_for_copies(int left);
void run_grid(void (*thread)(const void* params), const void* params, Grid grid, int threads, size_t shared);

inline int thread_index() { return place().thread; }
inline int block_threads() { return place().threads; }
inline int64_t block_x() { return place().block.x; }
inline int64_t block_y() { return place().block.y; }
inline int64_t block_z() { return place().block.z; }
inline int64_t grid_x() { return place().grid.x; }
inline uint8_t* shared_memory() { return place().shared; }

template <int kLeft>
void copy_wait() {
  wait_for_copies(kLeft);
}

template <class T>
T exchanged_value(int lane) {
  T x;
  std::memcpy(&x, exchanged(lane), sizeof x);
  return x;
}
inline int lane_index() { return thread_index() % 32; }

template <class T>
T shuffle(T x, int lane, int width = 32) {
  exchange(Meeting::shuffle, &x, sizeof x);
  return exchanged_value<T>(lane_index() / width * width + lane % width);
}
template <class T>
T shuffle_down(T x, int by, int width = 32) {
  exchange(Meeting::shuffle, &x, sizeof x);
  return exchanged_value<T>(lane_index() % width + by < width ? lane_index() + by : lane_index());
}
template <class T>
T shuffle_xor(T x, int mask, int width = 32) {
  exchange(Meeting::shuffle, &x, sizeof x);
  const int other = lane_index() ^ mask;
  return exchanged_value<T>(other / width == lane_index() / width ? other : lane_index());
}
inline uint32_t ballot(bool x) {
  exchange(Meeting::ballot, &x, sizeof x);
  uint32_t bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= static_cast<uint32_t>(exchanged_value<bool>(lane)) << lane;
  return bits;
}
inline void warp_barrier() { exchange(Meeting::warp_barrier, nullptr, 0); }

inline int32_t dot4(int32_t a, int32_t b, int32_t sum) {
  for (int i = 0; i < 32; i += 8) sum += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return sum;
}
inline int count_ones(uint64_t x) { return __builtin_popcountll(x); }
inline float f16_to_float(uint16_t bits) { return kvass::f16_to_float(bits); }
inline uint16_t float_to_f16(float x) { return kvass::float_to_f16(x); }
inline float float_from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t bits_of_float(float x) { return std::bit_cast<uint32_t>(x); }
inline float fma_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float add_rn(float a, float b) { return a + b; }
inline float sub_rn(float a, float b) { return a - b; }
inline float mul_rn(float a, float b) { return a * b; }
inline float div_rn(float a, float b) { return a / b; }
inline float sqrt_rn(float x) { return __builtin_sqrtf(x); }
inline float rint_rn(float x) { return __builtin_rintf(x); }
inline double fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }

template <class Params>
Status launch(void (*kernel)(Params), const char* name, Grid grid, int threads, size_t shared, DeviceStream,
              const Params& params) {
  static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= 4096);
  struct Call {
    void (*kernel)(Params);
    const Params* params;
  } call{kernel, &params};
  if (threads < 1 || threads > 1024 || threads % 32 != 0 || grid.y > 65535 || grid.z > 65535) {
    return Status::error(StatusCode::device, std::string(name) + ": no launch of this shape");
  }
  run_grid(
      [](const void* opaque) {
        const Call& of = *static_cast<const Call*>(opaque);
        of.kernel(*of.params);
      },
      &call, grid, threads, shared);
  return {};
}

}  // namespace kvass::emulated
