#include "serve/session_turn.h"

#include <chrono>
#include <utility>

#include "app/text.h"

namespace kvass::serve {

SessionJob::SessionJob(const Service& service, Begin begin, std::function<void(const DecodeEvent&)> on_event,
                       std::function<void(Result<DecodeResult>)> on_end)
    : begin_(std::move(begin)), on_event_(std::move(on_event)), on_end_(std::move(on_end)) {
  limit(service.request_seconds);
}

void SessionTurn::run(SessionStore::Session& session) {
  session_ = &session;
  if (exchange_->gone()) return store().release(session);
  // The template and the tokenizer may take a while; nobody else has the session meanwhile.
  service_.workers->add([self = shared_from_this()] {
    auto turn = std::make_shared<Result<ChatTurn>>(self->session_->chat->prompt(self->request_.content));
    self->service_.scheduler->call([self, turn] {
      if (!turn->ok()) return self->refuse(turn->status());
      self->submit(std::move(turn->value()));
    });
  });
}

void SessionTurn::submit(ChatTurn turn) {
  before_ = turn.keep;
  evaluated_ = static_cast<int64_t>(turn.ids.size());
  auto next = std::make_shared<ChatTurn>(std::move(turn));
  const auto self = shared_from_this();
  auto job = std::make_shared<SessionJob>(
      service_,
      [self, next]() -> Result<DecodeRequest> {
        KVASS_ASSIGN_OR_RETURN(DecodeRequest request, self->session_->chat->begin(std::move(*next)));
        request.options.max_tokens = self->request_.max_tokens;
        self->service_.metrics.prompt_reused.add(self->before_);
        return request;
      },
      [self](const DecodeEvent& event) { self->event(event); },
      [self](Result<DecodeResult> result) { self->end(std::move(result)); });
  exchange_->on_gone([job] { job->cancel(); });
  if (const Status status = service_.scheduler->submit(job); !status.ok()) {
    store().release(*session_);
    exchange_->answer(error_reply(too_many(service_, status)));
  }
}

Json SessionTurn::chunk(Json delta, Json finish) const {
  return {
      {"id", id_},
      {"object", "chat.completion.chunk"},
      {"created", created_},
      {"model", service_.id},
      {"system_fingerprint", service_.fingerprint},
      {"choices", Json::array({{{"index", 0}, {"delta", std::move(delta)}, {"finish_reason", std::move(finish)}}})}};
}

void SessionTurn::event(const DecodeEvent& event) {
  text_ += shown_text(event.text);
  if (request_.stream && !event.text.empty()) {
    stream_.send(chunk({{"content", shown_text(event.text)}}, nullptr));
  }
}

void SessionTurn::refuse(const Status& status) {
  store().release(*session_);
  if (!exchange_->gone()) fail(exchange_, stream_, api_error(status));
}

void SessionTurn::end(Result<DecodeResult> result) {
  if (!result.ok()) return refuse(result.status());
  if (const Status ended = session_->chat->end(result.value()); !ended.ok()) return refuse(ended);
  Sequence& sequence = *store().stream(*session_).sequence;
  if (sequence.options().checkpoints > 0) (void)sequence.checkpoint();  // of the turn's end
  auto whole = std::make_shared<DecodeResult>(std::move(result).value());
  store().save(*session_, [self = shared_from_this(), whole](const Status& status) { self->saved(*whole, status); });
}

// What cannot be kept is not acknowledged, and has not been.
void SessionTurn::not_saved(const Status& why) {
  const Status back = session_->chat->rewind_turns(session_->turns - 1);
  session_->turns = session_->chat->turns();
  session_->length = store().stream(*session_).sequence->length();
  store().release(*session_);
  if (exchange_->gone()) return;
  const char* const what_now = back.ok() ? "the turn was taken back" : "the turn is in memory alone";
  fail(exchange_, stream_, serve::not_saved(why, what_now));
}

void SessionTurn::saved(const DecodeResult& result, const Status& saved) {
  if (!saved.ok()) return not_saved(saved);
  const Json state = {{"turns", session_->turns}, {"length", session_->length}, {"saved", session_->saved}};
  store().release(*session_);
  if (exchange_->gone()) return;
  if (result.reason == StopReason::cancelled || result.reason == StopReason::failed) {
    const char* const cut = "the answer was cut; the session has what was said of it";
    return fail(exchange_, stream_,
                api_error(result.status.ok() ? Status::error(StatusCode::cancelled, cut) : result.status));
  }
  const int64_t prompt = before_ + evaluated_;
  const Json usage = {{"prompt_tokens", prompt},
                      {"completion_tokens", result.tokens},
                      {"total_tokens", prompt + result.tokens},
                      {"prompt_tokens_details", {{"cached_tokens", before_}}}};
  Fields& notes = exchange_->notes();
  notes.emplace_back("prompt_tokens", std::to_string(prompt));
  notes.emplace_back("cached_tokens", std::to_string(before_));
  notes.emplace_back("generated_tokens", std::to_string(result.tokens));
  if (request_.stream) {
    Json last = chunk(Json::object(), finish_reason(result.reason));
    last["usage"] = usage;
    last["session"] = state;
    stream_.send(last);
    return stream_.done();
  }
  exchange_->answer({200, "application/json",
                     dump({{"id", id_},
                           {"object", "session.message"},
                           {"created", created_},
                           {"model", service_.id},
                           {"system_fingerprint", service_.fingerprint},
                           {"role", "assistant"},
                           {"content", text_},
                           {"finish_reason", finish_reason(result.reason)},
                           {"usage", usage},
                           {"session", state}})});
}

}  // namespace kvass::serve
