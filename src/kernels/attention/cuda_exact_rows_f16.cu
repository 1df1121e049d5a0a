#include "device/code.h"
#include "kernels/attention/cuda_exact.h"

namespace kvass::KVASS_DEVICE {

Status exact_rows_f16(const DeviceAttentionParams& p, DeviceStream stream) {
  return launch_exact<StoredF16, true>(p, stream);
}

}  // namespace kvass::KVASS_DEVICE
