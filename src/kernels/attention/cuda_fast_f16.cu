#include "device/code.h"

#if !defined(__HIPCC__)
#include "kernels/attention/cuda_fast_launch.h"

namespace kvass::KVASS_DEVICE {

Status attention_fast_f16(const DeviceAttentionParams& p, DeviceStream stream);
Status attention_fast_f16(const DeviceAttentionParams& p, DeviceStream stream) {
  return launch_fast<FastF16>(p, stream);
}

}  // namespace kvass::KVASS_DEVICE
#endif
