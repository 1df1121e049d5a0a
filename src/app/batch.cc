#include "app/batch.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "app/text_output.h"

namespace kvass {
namespace {

using Clock = std::chrono::steady_clock;

// One sequence and the prompt that it runs.
struct Place {
  Sequence* sequence = nullptr;
  Sampler* sampler = nullptr;
  bool taken = false;
  size_t index = 0;                 // of the prompt
  std::span<const int32_t> unread;  // of the prompt
  int32_t token = 0;                // the next, once the prompt is read
  int32_t last_row = -1;            // of the sequence in this step, where it wants logits
  DecodeResult* result = nullptr;   // in BatchRun::results_
  std::optional<TextOutput> output{};
};

bool show_nothing(std::string_view) { return true; }

class BatchRun {
 public:
  BatchRun(const OpenModel& model, StreamBatch& batch, std::span<const std::vector<int32_t>> prompts,
           const DecodeOptions& options, const std::function<bool(size_t, const DecodeResult&)>& on_result)
      : model_(model), session_(*batch.session), prompts_(prompts), options_(options), on_result_(on_result) {
    options_.prompt.clear();
    options_.continues = false;
    options_.collect = true;
    results_.resize(prompts.size());
    done_.resize(prompts.size(), false);
    for (size_t i = 0; i < batch.sequences.size(); ++i) {
      Place place;
      place.sequence = batch.sequences[i].get();
      place.sampler = &batch.samplers[i];
      places_.push_back(std::move(place));
    }
  }

  Result<BatchSummary> run(const std::atomic<bool>& cancel) {
    const Clock::time_point begin = Clock::now();
    for (;;) {
      for (Place& place : places_) {
        if (!place.taken && next_ < prompts_.size()) KVASS_RETURN_IF_ERROR(take(place));
      }
      plan_step();
      if (runs_.empty()) break;
      KVASS_RETURN_IF_ERROR(session_.step(runs_));
      KVASS_RETURN_IF_ERROR(sample());
      if (!emit() || cancel.load(std::memory_order_relaxed)) {
        summary_.cancelled = summary_.complete < static_cast<int64_t>(prompts_.size());
        break;
      }
    }
    if (summary_.cancelled) emit_out_of_order();
    for (const DecodeResult& result : results_) summary_.tokens += result.tokens;
    summary_.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    return summary_;
  }

 private:
  Status take(Place& place) {
    place.index = next_++;
    place.taken = true;
    KVASS_RETURN_IF_ERROR(place.sequence->clear());
    place.sampler->reset(options_.sampling.seed + place.index);
    place.sampler->accept(prompts_[place.index]);
    place.unread = prompts_[place.index];
    place.result = &results_[place.index];
    place.result->prompt_tokens = static_cast<int64_t>(place.unread.size());
    place.output.emplace(*model_.tokenizer, options_, *place.result, show_nothing_);
    summary_.prompt_tokens += place.result->prompt_tokens;
    return {};
  }

  // A token of each that decodes, then as much of the prompts as there is room for, in the order of the places.
  void plan_step() {
    runs_.clear();
    int64_t room = session_.options().rows, row = 0;
    for (const Place& place : places_) room -= place.taken && place.unread.empty() ? 1 : 0;
    for (Place& place : places_) {
      place.last_row = -1;
      if (!place.taken) continue;
      std::span<const int32_t> tokens(&place.token, 1);
      if (!place.unread.empty()) {
        const int64_t most = std::min({room, place.sequence->plan().chunk, static_cast<int64_t>(place.unread.size())});
        if (most == 0) continue;
        tokens = place.unread.first(static_cast<size_t>(most));
        place.unread = place.unread.subspan(tokens.size());
        room -= most;
      }
      runs_.push_back({place.sequence, place.sequence->length(), tokens});
      row += static_cast<int64_t>(tokens.size());
      if (place.unread.empty()) place.last_row = static_cast<int32_t>(row - 1);
    }
  }

  // The next token of each whose prompt is read. A token depends on its own sequence only, so threads may share them.
  Status sample() {
    rows_.clear();
    sampled_.clear();
    for (Place& place : places_) {
      if (place.last_row < 0) continue;
      if (options_.max_tokens == 0) {
        end(place, StopReason::max_tokens);
        continue;
      }
      rows_.push_back(place.last_row);
      sampled_.push_back(&place);
    }
    if (rows_.empty()) return {};
    if (sampled_.front()->sampler->takes_likeliest()) {  // so do all: they have the same options
      KVASS_ASSIGN_OR_RETURN(const std::span<const Argmax> likeliest, session_.likeliest(rows_));
      for (size_t i = 0; i < rows_.size(); ++i) sampled_[i]->token = static_cast<int32_t>(likeliest[i].index);
    } else {
      KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, session_.logits(rows_));
      const int64_t vocabulary = model_.engine->program().vocabulary();
      session_.pool().run(static_cast<int64_t>(rows_.size()), [&](int64_t i, int) {
        Place& place = *sampled_[static_cast<size_t>(i)];
        place.token = place.sampler->sample(logits.data() + i * vocabulary, place.sequence->length());
      });
    }
    for (Place* place : sampled_) {
      if (place->token < 0) return bad_input("logits", "a number among them", "NaN alone");
      place->sampler->accept(place->token);
      if (const std::optional<StopReason> reason = place->output->take(place->token)) {
        end(*place, *reason);
      } else if (place->result->tokens == options_.max_tokens) {
        end(*place, StopReason::max_tokens);
      } else if (Status full = place->sequence->check_extend(place->sequence->length(), 1); !full.ok()) {
        place->result->status = full;
        end(*place, StopReason::cache_full);
      }
    }
    return {};
  }

  void end(Place& place, StopReason reason) {
    place.output->finish();
    place.output.reset();
    place.result->reason = reason;
    place.taken = false;
    done_[place.index] = true;
    ++summary_.complete;
    if (reason == StopReason::cache_full && summary_.full.empty()) {
      summary_.full = "prompt " + std::to_string(place.index) + ": " + place.result->status.message();
    }
  }

  // What can come out in order; false when the reader wants no more.
  bool emit() {
    while (emitted_ < prompts_.size() && done_[emitted_]) {
      if (!tell(emitted_++)) return false;
    }
    return true;
  }
  void emit_out_of_order() {
    for (; emitted_ < prompts_.size(); ++emitted_) {
      if (done_[emitted_] && !tell(emitted_)) return;
    }
  }
  bool tell(size_t index) {
    const bool wanted = on_result_(index, results_[index]);
    results_[index].ids = {};
    results_[index].text = {};
    return wanted;
  }

  const OpenModel& model_;
  Session& session_;
  const std::span<const std::vector<int32_t>> prompts_;
  DecodeOptions options_;
  const std::function<bool(size_t, const DecodeResult&)>& on_result_;
  const std::function<bool(std::string_view)> show_nothing_ = show_nothing;
  std::vector<Place> places_;          // [sequences]
  std::vector<DecodeResult> results_;  // [prompts]
  std::vector<bool> done_;             // [prompts]
  size_t next_ = 0;                    // prompt to be begun
  size_t emitted_ = 0;                 // prompts told, or passed over
  std::vector<Run> runs_;              // of a step
  std::vector<int32_t> rows_;          // of its logits
  std::vector<Place*> sampled_;        // [rows_]
  BatchSummary summary_;
};

Status check_prompt(const Sequence& sequence, size_t index, size_t tokens) {
  const std::string what = "prompt " + std::to_string(index);
  if (tokens == 0) return bad_input(what, "at least one token", "none");
  const int64_t context = sequence.options().context;
  if (sequence.endless() || static_cast<int64_t>(tokens) <= context) return {};
  return Status::error(StatusCode::cache_full,
                       what + ": expected at most " + std::to_string(context) + " tokens (--context), got " +
                           std::to_string(tokens) +
                           "; raise --context, or stream without end with --attention-sink S,W (or --endless)");
}

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
    KVASS_RETURN_IF_ERROR(check_prompt(*batch.sequences.front(), i, prompts[i].size()));
  }
  return BatchRun(model, batch, prompts, options, on_result).run(cancel);
}

Result<std::vector<std::string>> split_prompts(std::string_view text, const std::string& where) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end == 0) return bad_input(where + ":" + std::to_string(lines.size() + 1), "a prompt", "an empty line");
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (lines.empty()) return bad_input(where, "a prompt a line", "nothing");
  return lines;
}

}  // namespace kvass
