// Chooses the backend of an operator from the list registry.inc, the features of a machine and the caller's choice. Pure
// functions: everything they depend on is an argument. kvass/ops.h has the public form for this machine and
// environment.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "kvass/ops.h"

namespace kvass {

// What a machine can run: its CPU, and for each other device the reason why it cannot be used; empty: it can.
struct MachineFeatures {
  CpuFeatures cpu;
  std::string cuda = "not built";
  std::string rocm = "not built";

  MachineFeatures() = default;
  MachineFeatures(const CpuFeatures& of) : cpu(of) {}
};
MachineFeatures detect_features();  // for this build on this machine

// The order of arithmetic of a device's backend: the CPU's, or the device's own.
enum class Numerics : uint8_t { exact, fast };

// All backends: by operator in the order of ops.inc, then by backend, best first.
std::vector<Backend> list_backends(const MachineFeatures& features);

// The choices of a backend, strongest first. Empty: no choice. Lists are "operator=backend,…". An entry applies to the
// device that has the backend; the last entry for an operator and a device counts.
struct BackendChoice {
  std::string_view name;         // an argument of the call
  std::string_view list;         // OpContext::Options::backends
  std::string_view environment;  // KVASS_BACKEND
  std::string_view isa;          // KVASS_ISA
};
Result<Backend> get_backend(std::string_view op, Device device, const BackendChoice& choice,
                            const MachineFeatures& features);

// Checks that every entry of a list names an operator and one of its backends.
Status check_backend_list(std::string_view what, std::string_view list);

// The instruction set of a CPU backend's kernels.
Isa backend_isa(const Backend& backend);
// The order of arithmetic of a device's backend.
Numerics backend_numerics(const Backend& backend);

}  // namespace kvass
