// Chooses the form of the kernel for a call of attention_exact.
#include "device/code.h"
#include "kernels/attention/cuda_exact.h"

namespace kvass::KVASS_DEVICE {

Status attention_exact(const DeviceAttentionParams& p, DeviceStream stream) {
  if (p.run_count == 0 || p.most_rows == 0) return {};
  switch (p.dtype) {
    case DType::f32:
      return p.runs ? exact_tiles_f32(p, stream) : exact_rows_f32(p, stream);
    case DType::f16:
      return p.runs ? exact_tiles_f16(p, stream) : exact_rows_f16(p, stream);
    case DType::bf16:
      return p.runs ? exact_tiles_bf16(p, stream) : exact_rows_bf16(p, stream);
    case DType::q8:
      return exact_tiles_q8(p, stream);
  }
  return {};
}

}  // namespace kvass::KVASS_DEVICE
