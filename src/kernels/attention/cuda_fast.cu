// Chooses the form of the kernel for a call of attention_fast. Calls without a form for tensor cores use
// attention_exact.
#include "device/code.h"
#include "kernels/attention/device.h"

namespace kvass::KVASS_DEVICE {

Status attention_fast_f16(const DeviceAttentionParams& p, DeviceStream stream);
Status attention_fast_bf16(const DeviceAttentionParams& p, DeviceStream stream);

Status attention_fast(const DeviceAttentionParams& p, DeviceStream stream) {
  if (p.run_count == 0 || p.most_rows == 0) return {};
#if !defined(__HIPCC__)
  if (p.head_dim <= 256 && p.dtype == DType::f16) return attention_fast_f16(p, stream);
  if (p.head_dim <= 256 && p.dtype == DType::bf16) return attention_fast_bf16(p, stream);
#endif
  return attention_exact(p, stream);
}

}  // namespace kvass::KVASS_DEVICE
