// Many prompts through a few sequences that advance together: the job of `kvass run --prompts`. Every step brings a
// token of each sequence that decodes and a chunk of those that still read their prompt; as one ends, the next prompt
// takes its place. What a prompt gives is what generate() gives for it alone, bit for bit, whatever runs beside it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/generate.h"
#include "app/open.h"
#include "app/plan.h"
#include "kvass/status.h"

namespace kvass {

// A session, its sequences and a sampler for each, all memory mapped.
struct StreamBatch {
  std::unique_ptr<Session> session;
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<Sampler> samplers;  // [sequences]
};
Result<StreamBatch> open_batch(const OpenModel& model, const StreamOptions& options, const SampleOptions& sampling);
MemoryPlan plan_of(const OpenModel& model, const StreamBatch& batch);

// `options` hold for all: its prompt is not read, its seed is that of prompt 0, and prompt i has seed + i. `on_result`
// gets (index, result) in the order of the prompts, each as soon as those before it are out; false from it cancels.
// When cancelled, those that are complete come out, without the others. Prompts are checked before any work.
Result<BatchSummary> generate_batch(const OpenModel& model, StreamBatch& batch,
                                    std::span<const std::vector<int32_t>> prompts, const DecodeOptions& options,
                                    const std::function<bool(size_t, const DecodeResult&)>& on_result,
                                    const std::atomic<bool>& cancel);

// The lines of a file: one prompt each; messages say `where`. An empty line is an error, since the prompts that follow
// would have other numbers and seeds than a person counts; or it is skipped, and not counted.
enum class EmptyLines : uint8_t { refused, skipped };
Result<std::vector<std::string>> split_prompts(std::string_view text, const std::string& where,
                                               EmptyLines empty = EmptyLines::refused);

}  // namespace kvass
