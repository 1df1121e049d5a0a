#include "ops/registry.h"

#include <algorithm>
#include <cstdlib>

#include "device/runtime.h"

namespace kvass {
namespace {

enum class Kind { kernels, forward, plain };

struct Operator {
  std::string_view name;
  Kind kind;
};
constexpr Operator kOperators[] = {
#define KVASS_OPERATOR(name, kind) {#name, Kind::kind},
#define KVASS_OP_BACKEND(device, name, priority, isa)
#define KVASS_OP_DEVICE(device, name, priority, numerics)
#include "ops/registry.inc"
#undef KVASS_OPERATOR
#undef KVASS_OP_BACKEND
#undef KVASS_OP_DEVICE
};

struct Row {
  Device device;
  std::string_view name;
  int priority;
  Isa isa;
  Numerics numerics;
};
constexpr Row kRows[] = {
#define KVASS_OPERATOR(name, kind)
#define KVASS_OP_BACKEND(device, name, priority, isa) {Device::device, #name, priority, Isa::isa, Numerics::exact},
#define KVASS_OP_DEVICE(device, name, priority, numerics) \
  {Device::device, #name, priority, Isa::scalar, Numerics::numerics},
#include "ops/registry.inc"
#undef KVASS_OPERATOR
#undef KVASS_OP_BACKEND
#undef KVASS_OP_DEVICE
};

std::string operator_names() {
  std::string names;
  for (const Operator& op : kOperators) names += (names.empty() ? "" : ", ") + std::string(op.name);
  return names;
}

bool is_x86(Isa isa) { return isa == Isa::avx2 || isa == Isa::avx512vnni; }

std::string why_not(const Row& row, const MachineFeatures& features) {
  if (row.device == Device::cuda) return features.cuda;
  if (row.device == Device::rocm) return features.rocm;
#if defined(__x86_64__)
  const bool built_here = is_x86(row.isa) || row.isa == Isa::scalar;
#else
  const bool built_here = !is_x86(row.isa);
#endif
  if (!built_here) return is_x86(row.isa) ? "not built: for x86-64" : "not built: for AArch64";
  if (!isa_available(row.isa, features.cpu)) return "this machine has no " + std::string(isa_name(row.isa));
  return "";
}

// Calls body(operator, backend) for the entries of "operator=backend,…"; an entry without '=' has an empty backend.
template <class Body>
void for_entries(std::string_view list, Body&& body) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view entry = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    const size_t sign = entry.find('=');
    body(entry.substr(0, sign), sign == entry.npos ? std::string_view() : entry.substr(sign + 1));
  }
}

// The entry of a list for an operator and a device. Entries that name a backend of another device are skipped.
std::string_view entry_for(std::string_view list, std::string_view op, Device device) {
  std::string_view found;
  for_entries(list, [&](std::string_view name, std::string_view backend) {
    const bool elsewhere = std::any_of(std::begin(kRows), std::end(kRows),
                                       [&](const Row& row) { return row.name == backend && row.device != device; });
    if (name == op && !elsewhere) found = backend;
  });
  return found;
}

std::string names_of(const std::vector<Backend>& rows, Device device) {
  std::string names;
  for (const Backend& row : rows) {
    if (row.device != device) continue;
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::vector<Backend> backends_of(const Operator& op, const MachineFeatures& features) {
  std::vector<Backend> rows;
  for (const Row& row : kRows) {
    if (op.kind == Kind::plain && row.isa != Isa::scalar) continue;
    if (op.kind != Kind::forward && row.numerics == Numerics::fast) continue;
    std::string reason = why_not(row, features);
    const bool available = reason.empty();
    rows.push_back({op.name, row.device, row.name, row.priority, available, std::move(reason)});
  }
  return rows;
}

}  // namespace

std::vector<Backend> list_backends(const MachineFeatures& features) {
  std::vector<Backend> rows;
  for (const Operator& op : kOperators) {
    for (Backend& row : backends_of(op, features)) rows.push_back(std::move(row));
  }
  return rows;
}

Result<Backend> get_backend(std::string_view op, Device device, const BackendChoice& choice,
                            const MachineFeatures& features) {
  const auto known = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](const Operator& candidate) { return candidate.name == op; });
  if (known == std::end(kOperators)) {
    return bad_input("operator", "one of " + operator_names(), std::string(op));
  }
  const std::vector<Backend> rows = backends_of(*known, features);
  const auto find = [&](std::string_view name) {
    return std::find_if(rows.begin(), rows.end(),
                        [&](const Backend& row) { return row.device == device && row.name == name; });
  };
  const std::pair<std::string_view, std::string_view> named[] = {
      {op, choice.name},
      {"backends of the context", entry_for(choice.list, op, device)},
      {"KVASS_BACKEND", entry_for(choice.environment, op, device)},
  };
  for (const auto& [what, name] : named) {
    if (name.empty()) continue;
    const auto row = find(name);
    if (row != rows.end() && row->available) return *row;
    return bad_input(
        std::string(op) + " (" + std::string(what) + ")",
        "an available backend for " + std::string(device_name(device)) + " (there are " + names_of(rows, device) + ")",
        std::string(name) + (row == rows.end() ? "" : ": " + row->reason));
  }
  if (!choice.isa.empty() && device == Device::cpu) {
    KVASS_ASSIGN_OR_RETURN(const Isa isa, choose_isa(features.cpu, choice.isa));
    const auto forced = find(isa == Isa::scalar ? "reference" : isa_name(isa));
    return forced != rows.end() ? *forced : *find("reference");
  }
  const Backend* best = nullptr;
  std::string reasons;
  for (const Backend& row : rows) {
    if (row.device != device) continue;
    if (row.available && (!best || row.priority > best->priority)) best = &row;
    if (!row.available) reasons += (reasons.empty() ? "" : ", ") + std::string(row.name) + ": " + row.reason;
  }
  if (best) return *best;
  return unsupported(op, "a backend for " + std::string(device_name(device)), reasons);
}

Status check_backend_list(std::string_view what, std::string_view list) {
  Status status;
  const std::vector<Backend> rows = list_backends(MachineFeatures{});
  for_entries(list, [&](std::string_view op, std::string_view backend) {
    const bool known =
        std::any_of(rows.begin(), rows.end(), [&](const Backend& row) { return row.op == op && row.name == backend; });
    if (known || !status.ok()) return;
    status = bad_input(what, "operator=backend,… with the operators " + operator_names() + " and backends of theirs",
                       std::string(op) + "=" + std::string(backend));
  });
  return status;
}

Isa backend_isa(const Backend& backend) {
  for (const Row& row : kRows) {
    if (row.device == backend.device && row.name == backend.name) return row.isa;
  }
  return Isa::scalar;
}

Numerics backend_numerics(const Backend& backend) {
  for (const Row& row : kRows) {
    if (row.device == backend.device && row.name == backend.name) return row.numerics;
  }
  return Numerics::exact;
}

MachineFeatures detect_features() {
  MachineFeatures features = detect_cpu_features();
  features.cuda = why_no_device(Device::cuda);
  features.rocm = why_no_device(Device::rocm);
  return features;
}

std::vector<Backend> list_backends() { return list_backends(detect_features()); }

Result<Backend> get_backend(std::string_view op, Device device, std::string_view name) {
  const std::string list = environment("KVASS_BACKEND");
  const std::string isa = environment("KVASS_ISA");
  KVASS_RETURN_IF_ERROR(check_backend_list("KVASS_BACKEND", list));
  return get_backend(op, device, {name, "", list, isa}, detect_features());
}

}  // namespace kvass
