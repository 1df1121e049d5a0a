// A device of which a copy can fail: the emulation on the CPU, with a count of the copies that still succeed. One such
// device for the process; the tests that use it run on one thread.
#pragma once

#include <atomic>
#include <limits>

#include "device/runtime.h"
#include "ops/device_kernels.h"

namespace kvass::testing {

class FailingDevice {
 public:
  static const DeviceKernels& kernels() {
    static const DeviceRuntime runtime = [] {
      DeviceRuntime runtime = emulated::device_runtime;
      runtime.copy = &copy;
      return runtime;
    }();
    static const DeviceKernels kernels = [] {
      DeviceKernels kernels = emulated::device_kernels;
      kernels.runtime = &runtime;
      return kernels;
    }();
    return kernels;
  }
  // The next `copies` succeed, all after them fail.
  static void fail_after(int64_t copies) { left() = copies; }
  static void repair() { left() = std::numeric_limits<int64_t>::max(); }

 private:
  static std::atomic<int64_t>& left() {
    static std::atomic<int64_t> count{std::numeric_limits<int64_t>::max()};
    return count;
  }
  // Half of what a failing copy was to bring is there, as it may be on a device that stops in the middle.
  static Status copy(void* to, const void* from, size_t bytes, CopyKind kind, DeviceStream stream) {
    if (left()-- > 0) return emulated::device_runtime.copy(to, from, bytes, kind, stream);
    left() = 0;
    (void)emulated::device_runtime.copy(to, from, bytes / 2, kind, stream);
    return Status::error(StatusCode::device, "emulated device: the copy failed");
  }
};

}  // namespace kvass::testing
