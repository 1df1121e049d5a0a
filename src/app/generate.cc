#include "app/generate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "app/text_output.h"

namespace kvass {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Runs the prompt in planned chunks; the last row's logits are then ready. False when cancelled in between, which
// `whole` rules out.
Result<bool> prefill(Stream& stream, std::span<const int32_t> prompt, bool whole, const std::atomic<bool>& cancel) {
  const size_t chunk = static_cast<size_t>(stream.sequence->plan().chunk);
  for (size_t at = 0; at < prompt.size(); at += chunk) {
    if (!whole && cancel.load(std::memory_order_relaxed)) return false;
    const Run run{stream.sequence.get(), stream.sequence->length(),
                  prompt.subspan(at, std::min(chunk, prompt.size() - at))};
    KVASS_RETURN_IF_ERROR(stream.session->step(std::span(&run, 1)));
  }
  return true;
}

}  // namespace

std::string_view stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::max_tokens:
      return "max_tokens";
    case StopReason::end_of_generation:
      return "end_of_generation";
    case StopReason::stop_text:
      return "stop_text";
    case StopReason::cancelled:
      return "cancelled";
    case StopReason::cache_full:
      return "cache_full";
  }
  return "?";
}

Result<Sampler> create_sampler(const OpenModel& model, const SampleOptions& options) {
  return Sampler::create(options, model.engine->program().vocabulary(), model.engine->isa());
}

Result<GenerateResult> generate(const OpenModel& model, Stream& stream, Sampler& sampler,
                                const GenerateOptions& options, const std::function<bool(std::string_view)>& on_text,
                                const std::atomic<bool>& cancel) {
  if (options.prompt.empty()) return bad_input("prompt", "at least one token", "none");
  Session& session = *stream.session;
  Sequence& sequence = *stream.sequence;
  if (!sequence.endless()) {  // said before the work, not in the middle of the prompt
    const int64_t room = sequence.options().context - sequence.length();
    if (static_cast<int64_t>(options.prompt.size()) > room) {
      return Status::error("prompt: expected at most " + std::to_string(room) + " tokens (--context), got " +
                           std::to_string(options.prompt.size()) +
                           "; raise --context, or stream without end with --attention-sink S,W (or --endless)");
    }
  }
  sampler.accept(options.prompt);

  GenerateResult result;
  result.prompt_tokens = static_cast<int64_t>(options.prompt.size());
  TextOutput output(*model.tokenizer, options, result, on_text);
  const Clock::time_point begin = Clock::now();
  KVASS_ASSIGN_OR_RETURN(const bool complete, prefill(stream, options.prompt, options.continues, cancel));
  result.prefill_seconds = seconds_since(begin);
  result.reason = complete ? StopReason::max_tokens : StopReason::cancelled;

  const Clock::time_point decode_begin = Clock::now();
  int32_t row = static_cast<int32_t>((options.prompt.size() - 1) % static_cast<size_t>(sequence.plan().chunk));
  while (complete && result.tokens < options.max_tokens) {
    if (cancel.load(std::memory_order_relaxed)) {
      result.reason = StopReason::cancelled;
      break;
    }
    KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, session.logits(std::span(&row, 1)));
    const int32_t token = sampler.sample(logits.data(), sequence.length());
    if (token < 0) return bad_input("logits", "a number among them", "NaN alone");
    sampler.accept(token);
    if (const std::optional<StopReason> end = output.take(token)) {
      result.reason = *end;
      break;
    }
    if (result.tokens == options.max_tokens && !options.continues) break;  // its successor is not asked for
    if (Status full = sequence.check_extend(sequence.length(), 1); !full.ok()) {
      result.reason = StopReason::cache_full;
      result.error = full.message();
      break;
    }
    const Run run{&sequence, sequence.length(), std::span(&token, 1)};
    KVASS_RETURN_IF_ERROR(session.step(std::span(&run, 1)));
    row = 0;
  }
  output.finish();
  result.decode_seconds = seconds_since(decode_begin);
  return result;
}

Result<GenerateResult> generate(const OpenModel& model, Stream& stream, const GenerateOptions& options,
                                const std::function<bool(std::string_view)>& on_text, const std::atomic<bool>& cancel) {
  KVASS_ASSIGN_OR_RETURN(Sampler sampler, create_sampler(model, options.sampling));
  return generate(model, stream, sampler, options, on_text, cancel);
}

}  // namespace kvass
