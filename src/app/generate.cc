#include "app/generate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "app/text_output.h"

namespace kvass {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// Said before the work, not in the middle of the prompt.
Status check_room(const Sequence& sequence, size_t tokens, bool resumed) {
  const int64_t context = sequence.options().context, room = context - sequence.length();
  if (sequence.endless() || static_cast<int64_t>(tokens) <= room) return {};
  if (resumed) {
    return bad_input("cache full", "room for " + std::to_string(tokens) + " tokens",
                     std::to_string(room) + " left of the snapshot's context of " + std::to_string(context));
  }
  return Status::error(StatusCode::cache_full,
                       "prompt: expected at most " + std::to_string(room) + " tokens (--context), got " +
                           std::to_string(tokens) +
                           "; raise --context, or stream without end with --attention-sink S,W (or --endless)");
}

// The stream's state when `pending` are the next tokens.
StreamState state_of(const DecodeOptions& options, const Sampler& sampler, const TextOutput& output,
                     std::span<const int32_t> pending) {
  StreamState state;
  state.sampling = sampler.options();
  state.ignore_eos = options.ignore_eos;
  state.stops = options.stops;
  state.recent = sampler.recent();
  state.pending.assign(pending.begin(), pending.end());
  output.save(state);
  return state;
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
    case StopReason::failed:
      return "failed";
  }
  return "?";
}

Result<Sampler> create_sampler(const OpenModel& model, const SampleOptions& options) {
  return Sampler::create(options, model.engine->program().vocabulary(), model.engine->isa());
}

Result<size_t> prefill(OpenStream& stream, std::span<const int32_t> prompt, bool whole,
                       const std::atomic<bool>& cancel) {
  const size_t chunk = static_cast<size_t>(stream.sequence->plan().chunk);
  for (size_t at = 0; at < prompt.size(); at += chunk) {
    if (!whole && cancel.load(std::memory_order_relaxed)) return at;
    const Run run{stream.sequence.get(), stream.sequence->length(),
                  prompt.subspan(at, std::min(chunk, prompt.size() - at))};
    KVASS_RETURN_IF_ERROR(stream.session->step(std::span(&run, 1)));
  }
  return prompt.size();
}

struct TextGeneration::State {
  State(const OpenModel& model, OpenStream& stream, Sampler& sampler, const DecodeOptions& options,
        const OnText& on_text, const std::atomic<bool>& cancel)
      : session(*stream.session),
        sequence(*stream.sequence),
        sampler(sampler),
        options(options),
        cancel(cancel),
        output(*model.tokenizer, options, result, on_text) {}

  Session& session;
  Sequence& sequence;
  Sampler& sampler;
  const DecodeOptions& options;
  const std::atomic<bool>& cancel;
  DecodeResult result;
  TextOutput output;
  Clock::time_point decode_begin;
  std::vector<int32_t> pending;  // the sampler has seen them, the caches have not
  int32_t token = 0;             // the latest
  int32_t row = 0;               // of the last step, with the logits of what follows
  bool ended = false;

  bool stop(StopReason reason) {
    result.reason = reason;
    ended = true;
    return false;
  }
  Result<bool> write_pending();
  Result<bool> next();
};

// The latest token into the caches; false: the stream ends before it.
Result<bool> TextGeneration::State::write_pending() {
  if (result.tokens == options.max_tokens && !options.continues) {  // its successor is not asked for
    ended = true;
    return false;
  }
  if (Status full = sequence.check_extend(sequence.length(), 1); !full.ok()) {
    result.status = full;
    return stop(StopReason::cache_full);
  }
  if (options.save_every > 0 && result.tokens % options.save_every == 0) {
    options.on_state(state_of(options, sampler, output, pending));
  }
  const Run run{&sequence, sequence.length(), std::span(&token, 1)};
  KVASS_RETURN_IF_ERROR(session.step(std::span(&run, 1)));
  pending.clear();
  row = 0;
  return true;
}

Result<bool> TextGeneration::State::next() {
  if (ended) return false;
  if (!pending.empty()) {
    KVASS_ASSIGN_OR_RETURN(const bool written, write_pending());
    if (!written) return false;
  }
  if (result.tokens >= options.max_tokens) {
    ended = true;
    return false;
  }
  if (cancel.load(std::memory_order_relaxed)) return stop(StopReason::cancelled);
  if (sampler.takes_likeliest()) {
    KVASS_ASSIGN_OR_RETURN(const std::span<const Argmax> likeliest, session.likeliest(std::span(&row, 1)));
    token = static_cast<int32_t>(likeliest.front().index);
  } else {
    KVASS_ASSIGN_OR_RETURN(const std::span<const float> logits, session.logits(std::span(&row, 1)));
    token = sampler.sample(logits.data(), sequence.length());
  }
  if (token < 0) return bad_input("logits", "a number among them", "NaN alone");
  sampler.accept(token);
  pending.assign(1, token);
  if (const std::optional<StopReason> end = output.take(token)) stop(*end);
  return true;
}

TextGeneration::TextGeneration(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextGeneration::~TextGeneration() = default;

Result<std::unique_ptr<TextGeneration>> TextGeneration::begin(const OpenModel& model, OpenStream& stream,
                                                              Sampler& sampler, const DecodeOptions& options,
                                                              const OnText& on_text, const std::atomic<bool>& cancel) {
  std::vector<int32_t> tokens = options.resume ? options.resume->pending : std::vector<int32_t>();
  tokens.insert(tokens.end(), options.prompt.begin(), options.prompt.end());
  if (tokens.empty()) return bad_input("prompt", "at least one token", "none");
  KVASS_RETURN_IF_ERROR(check_room(*stream.sequence, tokens.size(), options.resume != nullptr));
  sampler.accept(options.prompt);

  auto state = std::make_unique<State>(model, stream, sampler, options, on_text, cancel);
  DecodeResult& result = state->result;
  result.prompt_tokens = static_cast<int64_t>(tokens.size());
  if (options.resume) state->output.resume(*options.resume, /*ended=*/!options.prompt.empty());
  const Clock::time_point begin = Clock::now();
  KVASS_ASSIGN_OR_RETURN(const size_t done, prefill(stream, tokens, options.continues, cancel));
  result.prefill_seconds = seconds_since(begin);
  const bool complete = done == tokens.size(), matched = state->output.matched();
  result.reason = !complete ? StopReason::cancelled : matched ? StopReason::stop_text : StopReason::max_tokens;
  state->ended = !complete || matched;
  state->decode_begin = Clock::now();
  state->pending.assign(tokens.begin() + static_cast<std::ptrdiff_t>(done), tokens.end());
  state->token = tokens.back();
  state->row = static_cast<int32_t>((tokens.size() - 1) % static_cast<size_t>(stream.sequence->plan().chunk));
  return std::unique_ptr<TextGeneration>(new TextGeneration(std::move(state)));
}

Result<bool> TextGeneration::next() { return state_->next(); }
int32_t TextGeneration::token() const { return state_->token; }

Result<DecodeResult> TextGeneration::end() {
  State& state = *state_;
  DecodeResult& result = state.result;
  const bool text_ended = result.reason == StopReason::end_of_generation || result.reason == StopReason::stop_text;
  if (text_ended || !state.options.keep_state) state.output.finish();
  if (state.options.keep_state) {
    if (state.pending.empty()) {  // logits are not saved: the last token runs again
      KVASS_RETURN_IF_ERROR(state.sequence.rewind(state.sequence.length() - 1));
      state.pending.assign(1, state.token);
    }
    result.state = state_of(state.options, state.sampler, state.output, state.pending);
  }
  result.decode_seconds = seconds_since(state.decode_begin);
  return std::move(result);
}

Result<DecodeResult> generate(const OpenModel& model, OpenStream& stream, Sampler& sampler,
                              const DecodeOptions& options, const std::function<bool(std::string_view)>& on_text,
                              const std::atomic<bool>& cancel) {
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<TextGeneration> generation,
                         TextGeneration::begin(model, stream, sampler, options, on_text, cancel));
  for (;;) {
    KVASS_ASSIGN_OR_RETURN(const bool more, generation->next());
    if (!more) return generation->end();
  }
}

Result<DecodeResult> generate(const OpenModel& model, OpenStream& stream, const DecodeOptions& options,
                              const std::function<bool(std::string_view)>& on_text, const std::atomic<bool>& cancel) {
  KVASS_ASSIGN_OR_RETURN(Sampler sampler, create_sampler(model, options.sampling));
  if (options.resume) sampler.accept(options.resume->recent);
  return generate(model, stream, sampler, options, on_text, cancel);
}

}  // namespace kvass
