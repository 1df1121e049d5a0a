// What the answers of all dialects have in common: ids and times, usage, log-probabilities as JSON, server-sent events.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/params.h"
#include "serve/router.h"
#include "serve/text_job.h"

namespace kvass::serve {

std::string new_id(const char* prefix);  // "chatcmpl-" and 24 random digits
int64_t now_seconds();

// A piece of a text as JSON has it: U+FFFD for each byte that is no part of a character. Piece by piece it is what it
// is for the whole text, since pieces divide no character.
std::string shown_text(std::string_view piece);

const char* finish_reason(StopReason reason);  // "stop", "length"

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0, reused = 0;
  void add(const TextResult& text);
  Json json() const;  // as chat and completions have it
};

Json logprob_json(double logprob);  // JSON has no infinities: OpenAI's word for a token that cannot be is -9999
// A token's text as JSON: not always whole characters, therefore with its bytes.
Json token_json(const Tokenizer& tokenizer, int32_t token, double logprob);

// A stream of server-sent events (HTML Living Standard, 9.2).
class EventStream {
 public:
  explicit EventStream(Exchange exchange) : exchange_(std::move(exchange)) {}
  bool begun() const { return begun_; }
  void begin(Fields headers = {});
  void send(const Json& data) { send_text("data: " + dump(data) + "\n\n"); }
  void send(const char* event, const Json& data) {
    send_text("event: " + std::string(event) + "\ndata: " + dump(data) + "\n\n");
  }
  void done() {
    send_text("data: [DONE]\n\n");
    exchange_->finish();
  }
  void finish() { exchange_->finish(); }

 private:
  void send_text(std::string text) {
    if (!begun_) begin();
    exchange_->write(std::move(text));
  }
  Exchange exchange_;
  bool begun_ = false;
};

// Why a text did not end by itself, by its limit or in a full cache; none: it did.
std::optional<ApiError> failure_of(const Service& service, const Result<TextResult>& result);

// Throws where a prompt of so many tokens does not fit; `param` has it in the request.
void check_prompt(const Service& service, size_t tokens, const char* param);

// A failure, before or within a stream.
void fail(const Exchange& exchange, EventStream& stream, const ApiError& error);
ApiError too_many(const Service& service, const Status& status);  // 429 with Retry-After

// Submits the jobs of one request. Where the client goes away, or one of them is not taken, all of them end.
void submit(Service& service, const Exchange& exchange, const std::vector<std::shared_ptr<Job>>& jobs);

// The header that says what became of the prompt's prefix.
Fields prefix_headers(const PrefixStore::Place& place, size_t prompt);
void note_text(const Exchange& exchange, const TextResult& text);  // for the access log

// Refuses another model than the one that is served.
void check_model(Params& params, const std::string& served);

}  // namespace kvass::serve
