// One message of a session: its turn runs, the answer goes out as it comes, and its end only once the session is saved.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "serve/answer.h"
#include "serve/sessions.h"

namespace kvass::serve {

// What a session runs: a turn's prompt and answer, or ids alone. All functions are called on the scheduler's thread.
class SessionJob final : public Job {
 public:
  using Begin = std::function<Result<DecodeRequest>()>;
  SessionJob(const Service& service, Begin begin, std::function<void(const DecodeEvent&)> on_event,
             std::function<void(Result<DecodeResult>)> on_end);
  Result<DecodeRequest> begin() override { return begin_(); }
  void event(const DecodeEvent& event) override { on_event_(event); }
  void end(Result<DecodeResult> result) override { on_end_(std::move(result)); }

 private:
  Begin begin_;
  std::function<void(const DecodeEvent&)> on_event_;
  std::function<void(Result<DecodeResult>)> on_end_;
};

struct MessageRequest {
  std::string content;
  int64_t max_tokens = INT64_MAX;
  bool stream = false;
};

class SessionTurn : public std::enable_shared_from_this<SessionTurn> {
 public:
  SessionTurn(Service& service, Exchange exchange, MessageRequest request)
      : service_(service), exchange_(std::move(exchange)), stream_(exchange_), request_(std::move(request)) {}

  // On the scheduler's thread, with a session that is in memory and the caller's; it is released in the end.
  void run(SessionStore::Session& session);

 private:
  void submit(ChatTurn turn);
  void event(const DecodeEvent& event);
  void end(Result<DecodeResult> result);
  void saved(const DecodeResult& result, const Status& saved);
  void not_saved(const Status& why);
  void refuse(const Status& status);
  Json chunk(Json delta, Json finish) const;
  SessionStore& store() { return *service_.sessions; }

  Service& service_;
  Exchange exchange_;
  EventStream stream_;
  MessageRequest request_;
  std::string text_;
  int64_t created_ = now_seconds();
  std::string id_ = new_id("msg_");
  SessionStore::Session* session_ = nullptr;
  int64_t before_ = 0, evaluated_ = 0;  // tokens of the prompt: that the caches had, that are run
};

}  // namespace kvass::serve
