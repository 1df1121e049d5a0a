// What kvass finds on a machine: the job of `kvass doctor`, whose answer goes into a report of a fault.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/machine.h"
#include "app/plan.h"
#include "base/platform.h"
#include "kvass/ops.h"
#include "kvass/status.h"

namespace kvass {

struct MathSpeed {
  Math math = Math::f32;
  double multiply_adds = 0.0;  // a second, all usable CPUs
};

struct MachineReport {
  std::string system, cpu, compiler;
  int cpus = 1;  // that the process may use
  std::string isa;
  std::vector<std::string> isas;  // that this machine has
  platform::MemoryInfo memory;
  size_t cache_bytes = 0;     // of the last level; 0: not known
  std::vector<double> reads;  // bytes/s of a plain read on all usable CPUs, one after the other; none: see the notes
  std::vector<MathSpeed> speeds;
  std::vector<Backend> backends;
  std::vector<std::string> notes;  // what is missing or slows kvass down here, in a sentence each
};
// Takes seconds, and a buffer of four times the last-level cache where there is memory for it.
Result<MachineReport> examine_machine();

// What a stream of a model would take here.
struct ModelReport {
  std::string path, format, family;
  StreamOptions options;
  MemoryPlan plan;
  // Whether it fits into the memory that is available, and the largest context that would, 0: none. Nothing: how much
  // memory there is is not known.
  std::optional<bool> fits;
  std::optional<int64_t> largest_context;
};
Result<ModelReport> examine_model(const std::string& path, const platform::MemoryInfo& memory);

}  // namespace kvass
