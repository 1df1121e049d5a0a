#include "device/runtime.h"

#include <utility>

namespace kvass {

const DeviceRuntime* device_runtime(Device device) {
  switch (device) {
    case Device::cuda:
#if defined(KVASS_CUDA)
      return &cuda::device_runtime;
#elif defined(KVASS_EMULATE_CUDA)
      return &emulated::device_runtime;
#else
      return nullptr;
#endif
    case Device::rocm:
#if defined(KVASS_ROCM)
      return &rocm::device_runtime;
#else
      return nullptr;
#endif
    case Device::cpu:
      break;
  }
  return nullptr;
}

const std::string& why_no_device(Device device) {
  const auto ask = [](Device which) -> std::string {
    const DeviceRuntime* runtime = device_runtime(which);
    if (!runtime) return "not built";
    const Status status = runtime->available();
    return status.ok() ? "" : "no device: " + status.message();
  };
  static const std::string cuda = ask(Device::cuda);
  static const std::string rocm = ask(Device::rocm);
  static const std::string none;
  return device == Device::cuda ? cuda : device == Device::rocm ? rocm : none;
}

Result<DeviceBlock> DeviceBlock::map(const DeviceRuntime& runtime, size_t bytes, std::string_view what) {
  DeviceBlock block;
  if (bytes == 0) return block;
  const Result<void*> data = runtime.allocate(bytes);
  if (!data.ok()) {
    const std::string expected = std::to_string(bytes) + " bytes on the device";
    return data.status().with_message(expected_message(what, expected, data.status().message()));
  }
  block.runtime_ = &runtime;
  block.data_ = static_cast<uint8_t*>(data.value());
  block.bytes_ = bytes;
  return block;
}

DeviceBlock::DeviceBlock(DeviceBlock&& other) noexcept
    : runtime_(other.runtime_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

DeviceBlock& DeviceBlock::operator=(DeviceBlock&& other) noexcept {
  std::swap(runtime_, other.runtime_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

DeviceBlock::~DeviceBlock() {
  if (data_) runtime_->release(data_);
}

}  // namespace kvass
