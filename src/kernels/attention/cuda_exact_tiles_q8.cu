#include "device/code.h"
#include "kernels/attention/cuda_exact.h"

namespace kvass::KVASS_DEVICE {

Status exact_tiles_q8(const DeviceAttentionParams& p, DeviceStream stream) {
  return launch_exact<StoredQ8, false>(p, stream);
}

}  // namespace kvass::KVASS_DEVICE
