#include "device/code.h"
#include "kernels/attention/cuda_exact.h"

namespace kvass::KVASS_DEVICE {

Status exact_rows_f32(const DeviceAttentionParams& p, DeviceStream stream) {
  return launch_exact<StoredF32, true>(p, stream);
}

}  // namespace kvass::KVASS_DEVICE
