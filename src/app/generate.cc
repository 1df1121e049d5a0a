#include "app/generate.h"

#include <utility>

namespace kvass {
namespace {

Result<DecodeResult> run_to_end(const OpenModel& model, OpenStream& stream, Sampler* sampler, DecodeOptions options,
                                OnText on_text, const std::atomic<bool>& cancel,
                                const std::function<bool(int64_t)>& on_prompt = {}) {
  KVASS_ASSIGN_OR_RETURN(
      const std::unique_ptr<TextGeneration> text,
      TextGeneration::begin(model, stream, sampler, std::move(options), std::move(on_text), &cancel, on_prompt));
  for (bool more = true; more;) {
    KVASS_ASSIGN_OR_RETURN(more, text->next());
  }
  return text->end();
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

Status check_text(const StreamState& state, const std::string& path) {
  if (!state.is_chat()) return {};
  return bad_input(path, "a text, as a stream saves it", "a conversation of a chat");
}

Result<Sampler> create_sampler(const OpenModel& model, const SampleOptions& options) {
  return Sampler::create(options, model.engine->program().vocabulary(), model.engine->isa());
}

Result<std::unique_ptr<TextGeneration>> TextGeneration::begin(const OpenModel& model, OpenStream& stream,
                                                              Sampler* sampler, DecodeOptions options, OnText on_text,
                                                              const std::atomic<bool>* cancel,
                                                              const std::function<bool(int64_t)>& on_prompt) {
  DecodeLoop loop(*stream.session, *model.tokenizer);
  KVASS_ASSIGN_OR_RETURN(const int64_t id, loop.add({.options = std::move(options),
                                                     .sequence = stream.sequence.get(),
                                                     .sampler = sampler,
                                                     .on_text = std::move(on_text),
                                                     .cancel = cancel}));
  int64_t done = 0;
  while (loop.reading(id)) {
    KVASS_RETURN_IF_ERROR(loop.advance());
    if (!on_prompt || loop.prompt_done(id) == done) continue;
    done = loop.prompt_done(id);
    if (!on_prompt(done)) loop.cancel(id);
  }
  return std::unique_ptr<TextGeneration>(new TextGeneration(std::move(loop), id));
}

Result<bool> TextGeneration::next() {
  token_ = -1;
  piece_ = {};
  while (loop_.size() > 0) {
    KVASS_ASSIGN_OR_RETURN(const std::span<const DecodeEvent> events, loop_.step());
    for (const DecodeEvent& event : events) {
      token_ = event.token;
      piece_ = event.text;
      if (token_ >= 0 || !piece_.empty()) return true;
    }
    if (!loop_.running()) return false;
  }
  return false;
}

Result<DecodeResult> TextGeneration::end() {
  piece_ = {};
  KVASS_ASSIGN_OR_RETURN(DecodeResult result, loop_.remove(id_));
  if (result.reason == StopReason::failed) return result.status;
  return result;
}

Result<DecodeResult> generate(const OpenModel& model, OpenStream& stream, Sampler& sampler, DecodeOptions options,
                              OnText on_text, const std::atomic<bool>& cancel) {
  return run_to_end(model, stream, &sampler, std::move(options), std::move(on_text), cancel);
}

Result<DecodeResult> generate(const OpenModel& model, OpenStream& stream, DecodeOptions options, OnText on_text,
                              const std::atomic<bool>& cancel, const std::function<bool(int64_t)>& on_prompt) {
  return run_to_end(model, stream, nullptr, std::move(options), std::move(on_text), cancel, on_prompt);
}

}  // namespace kvass
