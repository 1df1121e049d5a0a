// Where the time of a benchmark's row went, op by op: a table, and a timeline for trace viewers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "session/engine.h"
#include "session/session.h"

namespace kvass {

// Ops of one name in all layers, together.
struct ProfileRow {
  std::string op;           // its kind
  std::string name;         // without the layer's number
  int64_t calls = 0;        // times that it ran
  double seconds = 0.0;     // in all calls
  double weight_bytes = 0;  // that the calls read of packed matrices, each call reading them once
};

// The longest first. A cond is not in it; what its branches ran is.
std::vector<ProfileRow> summarise_profile(const Engine& engine, std::span<const OpTime> times);

// A row of a benchmark as one process of the Trace Event Format (JSON object format, complete events, microseconds from
// the first op on), as chrome://tracing and Perfetto read it.
struct TraceRow {
  std::string name;
  std::span<const OpTime> times;
};
std::string chrome_trace(const Program& program, std::span<const TraceRow> rows);

}  // namespace kvass
