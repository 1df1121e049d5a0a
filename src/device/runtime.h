// A device other than the CPU, as the host sees it: memory, device streams and events, in one table for each runtime of
// this build (CUDA, HIP, or the emulation that runs device code on the CPU). Not a kernel launcher: device code and its
// launches are in .cu files (device/code.h). Calls are ordered by the caller's device stream; they do not wait unless
// they say so. Owns nothing; DeviceBlock owns its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kvass/status.h"
#include "kvass/tensor.h"

namespace kvass {

// The runtime's stream (cudaStream_t, hipStream_t); null: its default stream. Not a token stream.
using DeviceStream = void*;
using DeviceEvent = void*;

enum class CopyKind { to_device, to_host, on_device };

struct DeviceProperties {
  std::string name;
  int processors = 0;       // streaming multiprocessors, compute units
  size_t shared_bytes = 0;  // shared memory: the limit for one block
  size_t memory_bytes = 0;  // free memory now
  double bandwidth = 0.0;   // bytes a second, computed from the memory's clock and bus width; 0: unknown
};

struct DeviceRuntime {
  Device device;
  std::string_view name;  // "cuda", "rocm", "emulated"

  Status (*available)();  // ok, or the driver's reason why there is no device
  Result<DeviceProperties> (*properties)();

  Result<void*> (*allocate)(size_t bytes);  // at least 256-byte aligned, not cleared; bytes > 0
  void (*release)(void* memory);
  Result<void*> (*allocate_host)(size_t bytes);  // pinned: copies from and to it are asynchronous
  void (*release_host)(void* memory);

  Status (*copy)(void* to, const void* from, size_t bytes, CopyKind kind, DeviceStream stream);
  Status (*fill)(void* to, uint8_t byte, size_t bytes, DeviceStream stream);
  // Copies host bytes to the device as kernel arguments. `from` may be reused when the call returns; it need not be
  // pinned, and the copy works within a captured graph. For a few kilobytes.
  Status (*upload)(void* to, const void* from, size_t bytes, DeviceStream stream);

  Result<DeviceStream> (*create_stream)();
  void (*destroy_stream)(DeviceStream stream);
  Status (*synchronise)(DeviceStream stream);  // waits
  Result<bool> (*capturing)(DeviceStream stream);

  Result<DeviceEvent> (*create_event)();
  void (*destroy_event)(DeviceEvent event);
  Status (*record)(DeviceEvent event, DeviceStream stream);
  Status (*wait)(DeviceStream stream, DeviceEvent event);         // the device stream waits, not the caller
  Result<double> (*seconds)(DeviceEvent begin, DeviceEvent end);  // waits for `end`
};

// The runtime for a device; null: this build has none.
const DeviceRuntime* device_runtime(Device device);

// Why operators cannot run on `device` in this build on this machine; empty: they can. Detected once in a process.
const std::string& why_no_device(Device device);

// Memory of a device, allocated once and never grown.
class DeviceBlock {
 public:
  DeviceBlock() = default;
  // bytes may be 0. `what` it is for begins the message of an error.
  static Result<DeviceBlock> map(const DeviceRuntime& runtime, size_t bytes, std::string_view what = "memory");
  DeviceBlock(DeviceBlock&& other) noexcept;
  DeviceBlock& operator=(DeviceBlock&& other) noexcept;
  ~DeviceBlock();

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  const DeviceRuntime* runtime_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// Each runtime is in the namespace of its kind. They are constants, so they may be used before main.
namespace cuda {
extern const DeviceRuntime device_runtime;
}
namespace rocm {
extern const DeviceRuntime device_runtime;
}
namespace emulated {
extern const DeviceRuntime device_runtime;
}

}  // namespace kvass
