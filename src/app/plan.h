// The memory plan of a stream, to the byte, before anything is loaded: the job of `kvass plan`, and what `run` prints
// first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "app/open.h"
#include "app/stream_options.h"
#include "cache/plan.h"
#include "kvass/status.h"

namespace kvass {

struct LayerPlan {
  LayoutKind kind{};
  int64_t sink = 0;            // tokens
  int64_t cache_len = 0;       // tokens that the layer keeps in sight: the context, the window, or sink + window
  int64_t slots = 0;           // tokens that it has room for, in whole tiles
  size_t k_bytes = 0;          // of cache_len keys; values take the same
  size_t full_bytes = 0;       // keys and values if the layer kept the whole context
  size_t sliding_bytes = 0;    // … if it kept the model's sliding window only
  size_t allocated_bytes = 0;  // what is mapped
};

struct MemoryPlan {
  std::vector<LayerPlan> layers;
  size_t weight_bytes = 0;
  size_t arena_bytes = 0;  // values, workspace and tables of a session
  size_t cache_bytes = 0;  // keys and values of cache_len tokens a layer
  size_t all_full_bytes = 0;
  size_t all_sliding_bytes = 0;
  size_t allocated_bytes = 0;  // the caches' block

  size_t total_bytes() const { return weight_bytes + arena_bytes + allocated_bytes; }
};

// Of a file and flags: reads metadata only.
Result<MemoryPlan> plan_memory(const std::string& path, const StreamOptions& options, int64_t head_rows);
// Of what is open.
MemoryPlan plan_of(const OpenModel& model, const Stream& stream);

// "kvass: weights 241.0 MiB, caches 12.2 MiB (3 sink_ring 4+508, 15 ring 512), arena 9.1 MiB, 262.3 MiB in all\n"
std::string plan_line(const MemoryPlan& plan);

}  // namespace kvass
