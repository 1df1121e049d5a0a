// What an OpContext owns: threads, scratch that grows to the largest call and is then reused (on a device its own), and
// the choices of backends read once, when it was made.
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

  // A device that is not the CPU, from its first call on.
  struct Remote {
    const DeviceKernels* kernels = nullptr;
    DeviceBlock scratch;
    DeviceEvent event = nullptr;  // of a change of streams
    int processors = 1;
    int64_t shared_bytes = 0;  // that a block of threads may have
  };
  Remote remotes[2];              // cuda, rocm
  DeviceStream stream = nullptr;  // of calls on their tensors

  // The backend that `op` uses on `device`; the kernels of a CPU's.
  Result<Backend> backend(std::string_view op, Device device) const;
  Result<Isa> kernels(std::string_view op, Device device) const;
  // The device that a backend is of. `use` is for tests: these kernels are the device from here on.
  Result<Remote*> remote(Device device);
  Status use(Device device, const DeviceKernels& kernels);
  // At least `bytes` of scratch. What was in it is lost.
  Result<uint8_t*> reserve(size_t bytes);
  Result<uint8_t*> reserve(Remote& remote, size_t bytes);
};

// Cuts a piece of memory into 64-byte aligned parts. Over no memory it only counts.
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
