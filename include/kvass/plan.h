// What a model's streams take, to the byte, before anything is loaded: integers only. What is mapped later is exactly
// this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvass/cache_plan.h"
#include "kvass/export.h"
#include "kvass/model.h"
#include "kvass/options.h"
#include "kvass/status.h"

namespace kvass {

// What is mapped.
struct MemoryPlan {
  CachePlan caches;         // of one sequence, layer by layer
  int64_t sequences = 1;    // each with such caches
  size_t weight_bytes = 0;  // of memory or of the mapped file
  size_t arena_bytes = 0;   // values, workspace and tables that the sequences share
  size_t cross_bytes = 0;   // encoder output, which all sequences share; 0: there is none

  size_t cache_bytes() const { return static_cast<size_t>(sequences) * caches.bytes; }
  size_t total_bytes() const { return weight_bytes + arena_bytes + cross_bytes + cache_bytes(); }
};

// The arena of the longest method beside what it could be.
struct ArenaFigures {
  size_t bytes = 0;        // values and workspaces where the plan puts them
  size_t sum_bytes = 0;    // the same side by side
  size_t bound_bytes = 0;  // the most that lives at one operator: no plan is smaller
};

// Keys and values by the export rule (cache_plan.h): what plans of other programs are compared with.
struct CacheTotals {
  std::vector<int64_t> cache_lens;          // [layers] tokens
  std::vector<size_t> k_bytes;              // [layers] of that many keys; values take the same
  size_t cache_bytes = 0;                   // keys and values of all layers
  size_t all_full_bytes = 0;                // … if every layer kept the whole context
  std::optional<size_t> all_sliding_bytes;  // … if every layer kept the widest window; none: no layer slides
};

// Of a model that is open, loaded or not. `load`: how its weights would be; those of a loaded model are as they are.
// bad_input for options that no stream can have, and where the plan is above options.memory_limit: the message has the
// largest context, or with sinks the largest window, that fits.
KVASS_API Result<MemoryPlan> plan_memory(const Model& model, const StreamOptions& options = {},
                                         const LoadOptions& load = {});
KVASS_API Result<ArenaFigures> arena_figures(const Model& model, const StreamOptions& options = {});
KVASS_API Result<CacheTotals> cache_totals(const Model& model, const StreamOptions& options = {});
// The largest context, or with sinks the largest window, in tokens, whose plan fits into `bytes`; at most the context
// or the window that `options` has, and without one the context that the model was trained for. 0: none.
KVASS_API Result<int64_t> largest_context(const Model& model, size_t bytes, const StreamOptions& options = {},
                                          const LoadOptions& load = {});

// The caches of a stream with these options, for plan_caches(). `trained_context`: ModelInfo's; the context where the
// options have none is this or StreamOptions::kDefaultContext, whichever is less. bad_input for options that no stream
// can have.
KVASS_API Result<CacheOptions> resolve_caches(const StreamOptions& options, int64_t trained_context);

// "weights 241.0 MiB, caches 12.2 MiB (3 layers sink_ring 4+508, 15 layers ring 512), arena 9.1 MiB, …"
KVASS_API std::string plan_text(const MemoryPlan& plan);

}  // namespace kvass
