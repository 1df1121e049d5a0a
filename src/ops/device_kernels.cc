#include "ops/device_kernels.h"

#include <string>

namespace kvass {

Result<const DeviceKernels*> device_kernels(Device device) {
  if (const std::string& why = why_no_device(device); !why.empty()) {
    const StatusCode code = device_runtime(device) ? StatusCode::device : StatusCode::unsupported;
    const std::string what = "device " + std::string(device_name(device));
    return Status::error(code, expected_message(what, "a device that is there", why));
  }
  switch (device) {
    case Device::cuda:
#if defined(KVASS_CUDA)
      return &cuda::device_kernels;
#elif defined(KVASS_EMULATE_CUDA)
      return &emulated::device_kernels;
#else
      break;
#endif
    case Device::rocm:
#if defined(KVASS_ROCM)
      return &rocm::device_kernels;
#else
      break;
#endif
    case Device::cpu:
      break;
  }
  return bad_input("device", "cuda or rocm", device_name(device));
}

}  // namespace kvass
