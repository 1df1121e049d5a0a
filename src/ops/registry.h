// Which backend an operator uses: the manifest registry.inc against the features of a machine and what was asked for. Pure:
// everything it depends on is an argument. The public form, for this machine and environment, is in kvass/ops.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "kvass/ops.h"

namespace kvass {

// What a machine can run: its CPU, and of each other device why not; empty: it is there.
struct MachineFeatures {
  CpuFeatures cpu;
  std::string cuda = "not built";
  std::string rocm = "not built";

  MachineFeatures() = default;
  MachineFeatures(const CpuFeatures& of) : cpu(of) {}
};
MachineFeatures detect_features();  // of this build on this machine

// How a backend of a device computes.
enum class Numerics : uint8_t { exact, fast };

// The order of the manifest: operators, then for each its backends, best first.
std::vector<Backend> list_backends(const MachineFeatures& features);

// What chooses, strongest first. Empty: no choice. Lists are "operator=backend,…"; an entry concerns the device that
// has such a backend, and the last one for an operator and a device holds.
struct BackendChoice {
  std::string_view name;         // of the argument
  std::string_view list;         // of a context
  std::string_view environment;  // KVASS_BACKEND
  std::string_view isa;          // KVASS_ISA
};
Result<Backend> get_backend(std::string_view op, Device device, const BackendChoice& choice,
                            const MachineFeatures& features);

// Every entry of a list names an operator and one of its backends.
Status check_backend_list(std::string_view what, std::string_view list);

// The entry of a CPU backend: the kernels that it runs.
Isa backend_isa(const Backend& backend);
// And of a device's.
Numerics backend_numerics(const Backend& backend);

}  // namespace kvass
