#include "serve/text_job.h"

#include <utility>

namespace kvass::serve {

TextJob::TextJob(Service& service, TextRequest request, OnBegin on_begin, OnEvent on_event, OnEnd on_end)
    : service_(service),
      request_(std::move(request)),
      on_begin_(std::move(on_begin)),
      on_event_(std::move(on_event)),
      on_end_(std::move(on_end)) {
  limit(service.request_seconds);
}

bool TextJob::ready() {
  const PrefixStore& store = *service_.prefixes;
  return store.has_room() && (request_.score_prompt || !store.worth_waiting(request_.prompt, request_.owner));
}

Result<DecodeRequest> TextJob::begin() {
  KVASS_ASSIGN_OR_RETURN(place_, service_.prefixes->take(request_.prompt, request_.owner, !request_.score_prompt));
  placed_ = true;
  kept_ = place_.reused;
  const int64_t vocabulary = service_.session->engine().program().vocabulary();
  KVASS_ASSIGN_OR_RETURN(Sampler sampler,
                         Sampler::create(request_.options.sampling, vocabulary, service_.session->engine().isa()));
  sampler_.emplace(std::move(sampler));
  sampler_->set_output_penalties(request_.penalties);
  const auto reused = static_cast<size_t>(place_.reused);
  sampler_->accept(std::span(request_.prompt).first(reused));
  DecodeRequest made;
  made.options = request_.options;
  made.options.prompt.assign(request_.prompt.begin() + static_cast<std::ptrdiff_t>(reused), request_.prompt.end());
  made.sequence = place_.sequence;
  made.sampler = &*sampler_;
  made.logprobs = request_.logprobs;
  made.score_prompt = request_.score_prompt;
  if (request_.receipt) {
    receipt_ = receipt_of(service_.model, place_.sequence->options(), request_.options.sampling, request_.penalties,
                          request_.prompt);
    made.on_logits = [this](std::span<const float> logits, int32_t token) { add_token(*receipt_, logits, token); };
  }
  service_.metrics.prompt_reused.add(place_.reused);
  if (on_begin_) on_begin_(place_);
  return made;
}

void TextJob::progress() {
  const int64_t length = place_.sequence->length();
  if (length - kept_ < PrefixStore::kCheckpointDistance) return;
  kept_ = length;
  service_.prefixes->checkpoint(place_.index);
}

void TextJob::read() { service_.prefixes->checkpoint(place_.index); }

void TextJob::end(Result<DecodeResult> result) {
  if (placed_) service_.prefixes->give_back(place_.index, result.ok() ? result->ids : std::vector<int32_t>());
  if (!result.ok()) return on_end_(result.status());
  TextResult whole;
  whole.result = std::move(result).value();
  whole.prompt_tokens = static_cast<int64_t>(request_.prompt.size());
  whole.reused = place_.reused;
  whole.detail = place_.detail;
  whole.receipt = std::move(receipt_);
  whole.prompt_logprobs = std::move(prompt_logprobs);
  on_end_(std::move(whole));
}

}  // namespace kvass::serve
