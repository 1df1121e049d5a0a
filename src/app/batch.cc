#include "app/batch.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "app/text.h"

namespace kvass {
namespace {

using Clock = std::chrono::steady_clock;

// The prompts of a batch on its way through the sequences.
class BatchRun {
 public:
  BatchRun(const OpenModel& model, StreamBatch& batch, std::span<const std::vector<int32_t>> prompts,
           const DecodeOptions& options, const std::function<bool(size_t, const DecodeResult&)>& on_result)
      : batch_(batch),
        loop_(*batch.session, *model.tokenizer),
        prompts_(prompts),
        options_(options),
        on_result_(on_result),
        places_(batch.sequences.size()),
        results_(prompts.size()),
        done_(prompts.size(), false) {
    options_.continues = false;
    options_.collect = true;
  }

  Result<BatchSummary> run(const std::atomic<bool>& cancel) {
    const Clock::time_point begin = Clock::now();
    for (;;) {
      for (size_t i = 0; i < places_.size(); ++i) {
        if (places_[i].id < 0 && next_ < prompts_.size()) KVASS_RETURN_IF_ERROR(take(i));
      }
      if (loop_.size() == 0) break;
      KVASS_ASSIGN_OR_RETURN(const std::span<const DecodeEvent> events, loop_.step());
      for (const DecodeEvent& event : events) {
        if (event.ended) KVASS_RETURN_IF_ERROR(end(event.id));
      }
      if (!emit() || cancel.load(std::memory_order_relaxed)) {
        summary_.cancelled = summary_.complete < static_cast<int64_t>(prompts_.size());
        break;
      }
    }
    if (summary_.cancelled) {
      for (Place& place : places_) {
        if (place.id < 0) continue;
        KVASS_ASSIGN_OR_RETURN(results_[place.index], loop_.remove(place.id));
      }
      emit_out_of_order();
    }
    for (const DecodeResult& result : results_) summary_.tokens += result.tokens;
    summary_.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    return summary_;
  }

 private:
  // A sequence of the batch, and the prompt that it runs.
  struct Place {
    int64_t id = -1;   // in the loop; -1: it is free
    size_t index = 0;  // of the prompt
  };

  // The next prompt.
  Status take(size_t i) {
    Place& place = places_[i];
    place.index = next_;
    KVASS_RETURN_IF_ERROR(batch_.sequences[i]->clear());
    batch_.samplers[i].reset(options_.sampling.seed + place.index);
    DecodeRequest request;
    request.options = options_;
    request.options.prompt = prompts_[place.index];
    request.sequence = batch_.sequences[i].get();
    request.sampler = &batch_.samplers[i];
    KVASS_ASSIGN_OR_RETURN(place.id, loop_.add(std::move(request)));
    summary_.prompt_tokens += static_cast<int64_t>(prompts_[next_++].size());
    return {};
  }

  Status end(int64_t id) {
    Place& place = *std::find_if(places_.begin(), places_.end(), [&](const Place& place) { return place.id == id; });
    place.id = -1;
    DecodeResult& result = results_[place.index];
    KVASS_ASSIGN_OR_RETURN(result, loop_.remove(id));
    if (result.reason == StopReason::failed) return result.status;
    done_[place.index] = true;
    ++summary_.complete;
    if (result.reason == StopReason::cache_full && summary_.full.empty()) {
      summary_.full = "prompt " + std::to_string(place.index) + ": " + result.status.message();
    }
    return {};
  }

  // What can come out in order; false when the reader wants no more.
  bool emit() {
    while (emitted_ < prompts_.size() && done_[emitted_]) {
      if (!give(emitted_++)) return false;
    }
    return true;
  }
  void emit_out_of_order() {
    for (; emitted_ < prompts_.size(); ++emitted_) {
      if (done_[emitted_] && !give(emitted_)) return;
    }
  }
  bool give(size_t index) {
    const bool wanted = on_result_(index, results_[index]);
    results_[index].ids = {};
    results_[index].text = {};
    return wanted;
  }

  StreamBatch& batch_;
  DecodeLoop loop_;
  const std::span<const std::vector<int32_t>> prompts_;
  DecodeOptions options_;
  const std::function<bool(size_t, const DecodeResult&)>& on_result_;
  std::vector<Place> places_;          // [sequences]
  std::vector<DecodeResult> results_;  // [prompts]
  std::vector<bool> done_;             // [prompts]
  size_t next_ = 0;                    // prompt to be begun
  size_t emitted_ = 0;                 // prompts whose results are out, or passed over
  BatchSummary summary_;
};

}  // namespace

Result<StreamBatch> open_batch(const OpenModel& model, const StreamOptions& options, const SampleOptions& sampling) {
  KVASS_ASSIGN_OR_RETURN(const CacheOptions caches, resolve_caches(options, model.trained_context));
  KVASS_ASSIGN_OR_RETURN(SessionOptions session, session_options(options, caches, /*head_rows=*/1));
  session.decode_method = model.methods.size() > 1;
  StreamBatch batch;
  KVASS_ASSIGN_OR_RETURN(batch.session, Session::create(model.engine, session, model.methods));
  for (int64_t i = 0; i < options.sequences; ++i) {
    KVASS_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, Sequence::create(model.engine, caches));
    KVASS_ASSIGN_OR_RETURN(Sampler sampler, create_sampler(model, sampling));
    batch.sequences.push_back(std::move(sequence));
    batch.samplers.push_back(std::move(sampler));
  }
  return batch;
}

MemoryPlan plan_of(const OpenModel& model, const StreamBatch& batch) {
  return {batch.sequences.front()->plan(), static_cast<int64_t>(batch.sequences.size()),
          model.engine->weights().bytes(), batch.session->arena_bytes()};
}

Result<BatchSummary> generate_batch(const OpenModel& model, StreamBatch& batch,
                                    std::span<const std::vector<int32_t>> prompts, const DecodeOptions& options,
                                    const std::function<bool(size_t, const DecodeResult&)>& on_result,
                                    const std::atomic<bool>& cancel) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string what = "prompt " + std::to_string(i);
    if (prompts[i].empty()) return bad_input(what, "at least one token", "none");
    KVASS_RETURN_IF_ERROR(check_room(*batch.sequences.front(), /*length=*/0, prompts[i].size(), what));
  }
  return BatchRun(model, batch, prompts, options, on_result).run(cancel);
}

Result<std::vector<std::string>> split_prompts(std::string_view text, const std::string& where, EmptyLines empty) {
  std::vector<std::string> prompts;
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = take_line(text);
    if (line.empty() && empty == EmptyLines::skipped) continue;
    if (line.empty()) return bad_input(where + ":" + std::to_string(number), "a prompt", "an empty line");
    prompts.emplace_back(line);
  }
  if (prompts.empty()) return bad_input(where, "a prompt a line", "nothing");
  return prompts;
}

}  // namespace kvass
