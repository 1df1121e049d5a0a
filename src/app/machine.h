// What a machine can do at this moment: a plain read and a loop of multiply-adds, on as many threads as the work beside
// which they are measured. For benchmarks: a speed is given as a share of one of them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/thread_pool.h"
#include "kvass/status.h"
#include "ops/linear/linear.h"
#include "session/engine.h"

namespace kvass {

struct MachineLimits {
  double read_bytes = 0.0;     // bytes/s of a plain read of a buffer four times the last-level cache, memory permitting
  double multiply_adds = 0.0;  // a second, in registers, of the kind that the arithmetic uses (see multiply_add_loop)
};

class MachineProbe {
 public:
  // Where memory is limited the buffer is smaller. `cancel`, which lives as long as the probe, ends whatever it does
  // soon; null: none.
  static Result<MachineProbe> create(int threads, const std::atomic<bool>* cancel = nullptr);
  Result<MachineLimits> measure(Math math);  // about a tenth of a second
  size_t buffer_bytes() const { return buffer_.bytes(); }

 private:
  MachineProbe() = default;
  Status check_cancel() const;

  std::unique_ptr<ThreadPool> pool_;
  Block buffer_;
  const std::atomic<bool>* cancel_ = nullptr;
};

// The instruction sets that kvass has and this machine can run, by name.
std::vector<std::string> available_isas();

// What an engine runs on: an instruction set ("avx2"), or a device ("cuda: NVIDIA H100").
std::string runs_on(const Engine& engine);

// `rounds` of independent multiply-adds with the machine's widest instructions: float32 fma for f32, pairs of 16-bit
// integers for a16, 8-bit ones for a8. Returns how many multiply-adds were done.
int64_t multiply_add_loop(int64_t rounds, Math math);

}  // namespace kvass
