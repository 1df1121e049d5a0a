#include "device/code.h"
#include "kernels/copy_tensor/device.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 20;

template <class T>
KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) copy_elements(const DeviceCopyParams p) {
  const int64_t count = p.shape[0] * p.shape[1] * p.shape[2] * p.shape[3];
  for (int64_t i = block_x() * kThreads + thread_index(); i < count; i += grid_x() * kThreads) {
    int64_t rest = i, from = 0, to = 0;
    for (int dim = 3; dim >= 0; --dim) {
      const int64_t at = rest % p.shape[dim];
      rest /= p.shape[dim];
      from += at * p.from_strides[dim];
      to += at * p.to_strides[dim];
    }
    static_cast<T*>(p.to)[to] = static_cast<const T*>(p.from)[from];
  }
}

}  // namespace

Status copy_tensor(const DeviceCopyParams& p, DeviceStream stream) {
  const int64_t blocks = (p.shape[0] * p.shape[1] * p.shape[2] * p.shape[3] + kThreads - 1) / kThreads;
  const Grid grid{blocks < kMostBlocks ? blocks : kMostBlocks};
  if (p.element_bytes == 4) return launch(&copy_elements<uint32_t>, "copy", grid, kThreads, 0, stream, p);
  return launch(&copy_elements<uint16_t>, "copy", grid, kThreads, 0, stream, p);
}

}  // namespace kvass::KVASS_DEVICE
