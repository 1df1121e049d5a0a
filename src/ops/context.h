// The state of an OpContext: threads; scratch, which grows to the largest call and is reused (each device has its own);
// and the choices of backends, which are read when the context is created.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

#include "base/block.h"
#include "base/thread_pool.h"
#include "device/runtime.h"
#include "kvass/ops.h"
#include "ops/device_kernels.h"
#include "ops/registry.h"

namespace kvass {

struct OpContext::State {
  explicit State(int threads) : pool(threads) {}
  ~State();

  std::mutex mutex;  // held by the call that runs, before it reads or writes anything else here
  ThreadPool pool;
  Block scratch;
  MachineFeatures features;
  std::string backends;     // Options::backends
  std::string environment;  // KVASS_BACKEND
  std::string isa;          // KVASS_ISA

  // A device other than the CPU, from its first call on.
  struct Remote {
    const DeviceKernels* kernels = nullptr;
    DeviceBlock scratch;
    DeviceEvent event = nullptr;  // used by set_stream
    int processors = 1;
    int64_t shared_bytes = 0;  // shared memory limit of a block of threads
  };
  Remote remotes[2];              // cuda, rocm
  DeviceStream stream = nullptr;  // the device stream for calls on device tensors

  // The backend that `op` uses on `device`.
  Result<Backend> backend(std::string_view op, Device device) const;
  Result<Isa> kernels(std::string_view op, Device device) const;
  // The state of a device. `use` is for tests: from then on these kernels are the device.
  Result<Remote*> remote(Device device);
  Status use(Device device, const DeviceKernels& kernels);
  // At least `bytes` of scratch. Its former contents are lost.
  Result<uint8_t*> reserve(size_t bytes);
  Result<uint8_t*> reserve(Remote& remote, size_t bytes);
};

// `op` on a context that was created; one that was moved from has nothing to run on.
Status check_context(OpContext& context, std::string_view op);

// Divides memory into 64-byte aligned parts. With null memory it only counts the bytes.
class Carver {
 public:
  explicit Carver(uint8_t* data) : data_(data) {}
  template <class T>
  T* take(int64_t count) {
    T* part = data_ ? reinterpret_cast<T*>(data_ + bytes_) : nullptr;
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return part;
  }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* data_;
  size_t bytes_ = 0;
};

}  // namespace kvass
