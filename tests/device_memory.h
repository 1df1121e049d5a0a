// Devices for the tests of device kernels: the emulation on the CPU, and the devices of this machine.
#pragma once

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "device/runtime.h"
#include "effort.h"
#include "ops/device_kernels.h"

namespace kvass::testing {

// Without the emulation under the thread sanitizer, which cannot follow fibers that change stacks. An emulated block runs
// on one thread, so the sanitizer would find nothing.
inline std::vector<const DeviceKernels*> test_devices() {
  std::vector<const DeviceKernels*> devices;
  if (!kThreadSanitized) devices.push_back(&emulated::device_kernels);
  for (const Device device : {Device::cuda, Device::rocm}) {
    const Result<const DeviceKernels*> found = device_kernels(device);
    if (found.ok() && found.value() != &emulated::device_kernels) devices.push_back(found.value());
  }
  return devices;
}

inline std::string name_of(const DeviceKernels* device) { return std::string(device->runtime->name); }

// An array in a device's memory. Reading waits for everything on the default stream.
template <class T>
class OnDevice {
 public:
  OnDevice(const DeviceKernels& kernels, std::span<const T> values)
      : runtime_(kernels.runtime),
        size_(values.size()),
        block_(DeviceBlock::map(*runtime_, values.size_bytes() + 1).value()) {
    const Status status = runtime_->copy(data(), values.data(), values.size_bytes(), CopyKind::to_device, nullptr);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  OnDevice(const DeviceKernels& kernels, const std::vector<T>& values)
      : OnDevice(kernels, std::span<const T>(values)) {}

  T* data() { return reinterpret_cast<T*>(block_.data()); }
  std::vector<T> read() {
    std::vector<T> values(size_);
    Status status = runtime_->copy(values.data(), data(), size_ * sizeof(T), CopyKind::to_host, nullptr);
    if (status.ok()) status = runtime_->synchronise(nullptr);
    EXPECT_TRUE(status.ok()) << status.message();
    return values;
  }

 private:
  const DeviceRuntime* runtime_;
  size_t size_;
  DeviceBlock block_;
};

}  // namespace kvass::testing
