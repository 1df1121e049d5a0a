// The argmax of rows on a device. An element and its index are packed into one number, so that comparing these numbers
// gives the required order: greater values first, then lower indices; NaN is below everything.
#include "device/code.h"
#include "device/lane.h"
#include "kernels/argmax/device.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kThreads = 256;

KVASS_DEVICE_FN uint64_t rank(float x, int64_t index) {
  if (x != x) return 0;
  const uint32_t bits = x == 0.0f ? 0u : bits_of_float(x);  // -0 counts as +0
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(index));
}

// The largest `mine` of the block's threads, in thread 0.
KVASS_DEVICE_FN uint64_t largest(uint64_t mine, uint64_t* shared) {
  shared[thread_index()] = mine;
  for (int half = kThreads / 2; half >= 1; half /= 2) {
    barrier();
    if (thread_index() < half && shared[thread_index() + half] > shared[thread_index()]) {
      shared[thread_index()] = shared[thread_index() + half];
    }
  }
  return shared[thread_index()];
}

KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) rank_parts(const DeviceArgmaxParams p) {
  const float* x = p.x + block_y() * p.n;
  uint64_t best = 0;
  for (int64_t i = block_x() * kThreads + thread_index(); i < p.n; i += kArgmaxParts * kThreads) {
    const uint64_t one = rank(x[i], i);
    best = one > best ? one : best;
  }
  best = largest(best, reinterpret_cast<uint64_t*>(shared_memory()));
  if (thread_index() == 0) p.parts[block_y() * kArgmaxParts + block_x()] = best;
}

KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) rank_rows(const DeviceArgmaxParams p) {
  const int64_t row = block_x();
  const uint64_t mine = thread_index() < kArgmaxParts ? p.parts[row * kArgmaxParts + thread_index()] : 0;
  const uint64_t best = largest(mine, reinterpret_cast<uint64_t*>(shared_memory()));
  if (thread_index() != 0) return;
  Argmax result{-1, 0.0f};
  if (best != 0) {
    const int64_t index = 0xffffffffu - static_cast<uint32_t>(best);
    result = {index, p.x[row * p.n + index]};
  }
  p.result[row] = result;
}

}  // namespace

Status argmax(const DeviceArgmaxParams& p, DeviceStream stream) {
  const size_t shared = kThreads * sizeof(uint64_t);
  KVASS_RETURN_IF_ERROR(launch(&rank_parts, "argmax", Grid{kArgmaxParts, p.rows, 1}, kThreads, shared, stream, p));
  return launch(&rank_rows, "argmax", Grid{p.rows, 1, 1}, kThreads, shared, stream, p);
}

}  // namespace kvass::KVASS_DEVICE
