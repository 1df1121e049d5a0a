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
#include "kvass/plan.h"
#include "kvass/status.h"
#include "model/speech.h"

namespace kvass {

// What a plan is made for: a model file of any kind, of which metadata is read and no weights, or bare layers.
class PlannedModel {
 public:
  static Result<PlannedModel> of(const ModelFile& file, const WeightOptions& weights = {});
  // A program that is there already, with so many bytes of weights.
  static Result<PlannedModel> of(Program program, size_t weight_bytes, int64_t trained_context, bool decode_method,
                                 Device device);
  static Result<PlannedModel> of(const LayerPattern& pattern);  // caches only: no weights, no arena

  bool has_program() const { return program_.has_value(); }
  Result<MemoryPlan> plan(const StreamOptions& options, int64_t head_rows) const;
  Result<ArenaFigures> arena(const StreamOptions& options, int64_t head_rows) const;  // of a program
  Result<CacheTotals> totals(const StreamOptions& options) const;
  // An error where the plan takes more than options.memory_limit, with the largest context, or with sinks the largest
  // window, that fits.
  Status check_limit(const StreamOptions& options, int64_t head_rows) const;
  // The largest context, or with sinks the largest window, whose plan takes at most `bytes`; 0: none.
  Result<int64_t> largest_context(const StreamOptions& options, int64_t head_rows, size_t bytes) const;

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

// An error where a stream of a speech model asks for sinks or no end: its decoder sees all of a window's text.
Status check_speech_stream(const StreamOptions& stream);

// Of what is open.
MemoryPlan plan_of(const OpenModel& model, const OpenStream& stream);

// "kvass: weights 241.0 MiB, caches 12.2 MiB (3 layers sink_ring 4+508, 15 layers ring 512), arena 9.1 MiB, …\n"
std::string plan_line(const MemoryPlan& plan);

// "full 4096", "ring 512", "sink_ring 4+508": a layout and the tokens that it keeps visible.
std::string layout_text(const Layout& layout);

}  // namespace kvass
