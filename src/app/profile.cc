#include "app/profile.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "ops/linear/weight.h"
#include "program/op_spec.h"

namespace kvass {
namespace {

// "layer 3 attention" -> "attention"
std::string without_layer(const std::string& name) {
  const size_t at = name.find("layer ");
  if (at == std::string::npos) return name;
  size_t end = name.find_first_not_of("0123456789", at + 6);
  if (end == std::string::npos) return name.substr(0, at);
  if (name[end] == ' ') ++end;
  return name.substr(0, at) + name.substr(end);
}

double weight_bytes(const Engine& engine, const Op& op) {
  if (op_spec(op.kind).reads_single_rows) return 0.0;
  double bytes = 0.0;
  for (const WeightId id : op.weights) {
    const PackedWeight& weight = engine.weights().matrices[static_cast<size_t>(id)];
    const Result<size_t> packed = packed_bytes(weight.type, weight.n, weight.k);
    if (packed.ok()) bytes += static_cast<double>(packed.value());
  }
  return bytes;
}

}  // namespace

std::vector<ProfileRow> summarise_profile(const Engine& engine, std::span<const OpTime> times) {
  const Program& program = engine.program();
  std::map<std::pair<OpKind, std::string>, ProfileRow> rows;
  for (const OpTime& time : times) {
    const Op& op = program.ops[static_cast<size_t>(time.op)];
    if (!op.branches.empty()) continue;
    std::string name = without_layer(op.name);
    ProfileRow& row = rows[{op.kind, name}];
    row.op = op_kind_name(op.kind);
    row.name = std::move(name);
    ++row.calls;
    row.seconds += static_cast<double>(time.end - time.begin) * 1e-9;
    row.weight_bytes += weight_bytes(engine, op);
  }
  std::vector<ProfileRow> sorted;
  for (auto& [key, row] : rows) sorted.push_back(std::move(row));
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const ProfileRow& a, const ProfileRow& b) { return a.seconds > b.seconds; });
  return sorted;
}

std::string chrome_trace(const Program& program, std::span<const TraceRow> rows) {
  nlohmann::json events = nlohmann::json::array();
  for (size_t i = 0; i < rows.size(); ++i) {
    events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", i}, {"args", {{"name", rows[i].name}}}});
    int64_t first = INT64_MAX;
    for (const OpTime& time : rows[i].times) first = std::min(first, time.begin);
    for (const OpTime& time : rows[i].times) {
      const Op& op = program.ops[static_cast<size_t>(time.op)];
      events.push_back({{"ph", "X"},
                        {"name", op.name},
                        {"cat", op_kind_name(op.kind)},
                        {"pid", i},
                        {"tid", 0},
                        {"ts", static_cast<double>(time.begin - first) * 1e-3},
                        {"dur", static_cast<double>(time.end - time.begin) * 1e-3}});
    }
  }
  return nlohmann::json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

}  // namespace kvass
