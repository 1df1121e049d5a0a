// RMSNorm on a device: one block of threads for each row. Sixteen threads are the lanes of the formula; all threads
// load the row and scale it.
#include "device/code.h"
#include "device/lane.h"
#include "kernels/rms_norm/device.h"

namespace kvass::KVASS_DEVICE {
namespace {

constexpr int kThreads = 128;
constexpr int kLanes = 16;
constexpr int kChunk = 2048;  // elements in shared memory, a multiple of the lanes

template <int kHalf>
KVASS_DEVICE_FN void fold_once(float* lanes) {
  KVASS_UNROLL
  for (int lane = 0; lane < kHalf; ++lane) lanes[lane] = add_rn(lanes[lane], lanes[lane + kHalf]);
}

KVASS_KERNEL void KVASS_BLOCK_THREADS(kThreads) rms_norm_row(const RmsNormArgs args) {
  float* chunk = reinterpret_cast<float*>(shared_memory());  // [kChunk]
  float* sums = chunk + kChunk;                              // [kLanes]
  const int thread = thread_index();
  const float* x = args.x + block_x() * args.x_stride;
  float* y = args.y + block_x() * args.y_stride;
  float sum = 0.0f;  // lane `thread`
  for (int64_t begin = 0; begin < args.n; begin += kChunk) {
    const int count = static_cast<int>(args.n - begin < kChunk ? args.n - begin : kChunk);
    for (int k = thread; k < count; k += kThreads) chunk[k] = x[begin + k];
    barrier();
    if (thread < kLanes) {
      for (int k = thread; k < count; k += kLanes) sum = fma_rn(chunk[k], chunk[k], sum);
    }
    barrier();
  }
  if (thread < kLanes) sums[thread] = sum;
  barrier();
  float folded[kLanes];
  KVASS_UNROLL
  for (int lane = 0; lane < kLanes; ++lane) folded[lane] = sums[lane];
  fold_once<8>(folded);
  fold_once<4>(folded);
  fold_once<2>(folded);
  fold_once<1>(folded);
  const float mean = add_rn(div_rn(folded[0], static_cast<float>(args.n)), args.epsilon);
  const float r = div_rn(1.0f, sqrt_rn(mean));
  for (int64_t k = thread; k < args.n; k += kThreads) y[k] = mul_rn(mul_rn(x[k], r), args.w[k]);
}

}  // namespace

Status rms_norm(const RmsNormArgs& args, DeviceStream stream) {
  return launch(&rms_norm_row, "rms_norm", Grid{args.rows, 1, 1}, kThreads, (kChunk + kLanes) * sizeof(float), stream,
                args);
}

}  // namespace kvass::KVASS_DEVICE
