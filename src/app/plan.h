// The memory plan of a stream, to the byte, before anything is loaded: the job of `kvass plan`, what `run` prints
// first, and what --memory-limit is held against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/model_file.h"
#include "app/open.h"
#include "app/stream_options.h"
#include "kvass/cache_plan.h"
#include "kvass/status.h"
#include "model/speech.h"

namespace kvass {

// What is mapped.
struct MemoryPlan {
  CachePlan caches;       // of one sequence
  int64_t sequences = 1;  // each with such caches
  size_t weight_bytes = 0;
  size_t arena_bytes = 0;  // values, workspace and tables of a session
  size_t cross_bytes = 0;  // what an encoder leaves, which all sequences share; 0: there is none

  size_t cache_bytes() const { return static_cast<size_t>(sequences) * caches.bytes; }
  size_t total_bytes() const { return weight_bytes + arena_bytes + cross_bytes + cache_bytes(); }
};

// The arena of the longest method beside what it could be: plan/arena.h.
struct ArenaFigures {
  size_t bytes = 0;        // values and workspaces where the plan puts them
  size_t sum_bytes = 0;    // the same side by side
  size_t bound_bytes = 0;  // the most that lives at one op: no plan is smaller
};

// Keys and values by the export rule (cache_plan.h): what plans of other programs are compared with.
struct CacheTotals {
  std::vector<int64_t> cache_lens;          // [layers] tokens
  std::vector<size_t> k_bytes;              // [layers] of that many keys; values take the same
  size_t cache_bytes = 0;                   // keys and values of all layers
  size_t all_full_bytes = 0;                // … if every layer kept the whole context
  std::optional<size_t> all_sliding_bytes;  // … if every layer kept the widest window; none: no layer slides
};

// What a plan is made for: a model file of any kind, of which metadata is read and no weights, or bare layers.
class PlannedModel {
 public:
  static Result<PlannedModel> of(const ModelFile& file, const WeightOptions& weights = {});
  static Result<PlannedModel> of(const LayerPattern& pattern);  // caches only: no weights, no arena

  bool has_program() const { return program_.has_value(); }
  Result<MemoryPlan> plan(const StreamOptions& options, int64_t head_rows) const;
  Result<ArenaFigures> arena(const StreamOptions& options, int64_t head_rows) const;  // of a program
  Result<CacheTotals> totals(const StreamOptions& options) const;
  // An error where the plan takes more than options.memory_limit, with the largest context, or with sinks the largest
  // window, that fits.
  Status check_limit(const StreamOptions& options, int64_t head_rows) const;

 private:
  PlannedModel() = default;
  Result<SessionOptions> session(const StreamOptions& options, const CacheOptions& caches, int64_t head_rows) const;
  std::optional<Program> program_;
  std::vector<CacheShape> shapes_;
  size_t weight_bytes_ = 0;
  int64_t trained_context_ = 0;  // tokens
  bool decode_method_ = false;
  Device device_ = Device::cpu;
  std::optional<SpeechShape> speech_;  // of a model that transcribes
};

// The same check of a file whose weights are about to be loaded.
Status check_memory_limit(const ModelFile& file, const StreamOptions& options, int64_t head_rows,
                          const WeightOptions& weights = {});

// Of what is open.
MemoryPlan plan_of(const OpenModel& model, const Stream& stream);

// "kvass: weights 241.0 MiB, caches 12.2 MiB (3 layers sink_ring 4+508, 15 layers ring 512), arena 9.1 MiB, …\n"
std::string plan_line(const MemoryPlan& plan);

// "full 4096", "ring 512", "sink_ring 4+508": a layout and the tokens that it keeps in sight.
std::string layout_text(const Layout& layout);

}  // namespace kvass
