// Which backend an operator uses: the manifest ops.inc against the features of a machine and what was asked for. Pure:
// everything it depends on is an argument. The public form, for this machine and environment, is in kvass/ops.h.
#pragma once

#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "kvass/ops.h"

namespace kvass {

// The order of the manifest: operators, then for each its backends, best first.
std::vector<Backend> list_backends(const CpuFeatures& features);

// What chooses, strongest first. Empty: no choice. Lists are "operator=backend,…".
struct BackendChoice {
  std::string_view name;         // of the argument
  std::string_view list;         // of a context
  std::string_view environment;  // KVASS_BACKEND
  std::string_view isa;          // KVASS_ISA
};
Result<Backend> get_backend(std::string_view op, Device device, const BackendChoice& choice,
                            const CpuFeatures& features);

// Every entry of a list names an operator and one of its backends.
Status check_backend_list(std::string_view what, std::string_view list);

// The entry of a CPU backend: the kernels that it runs.
Isa backend_isa(const Backend& backend);

}  // namespace kvass
