#include "serve/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "app/text.h"
#include "base/new_file.h"

namespace kvass::serve {

std::string new_id(const char* prefix) {
  Result<std::string> name = random_name();
  if (!name.ok()) throw api_error(name.status());
  return prefix + std::move(name).value().substr(0, 24);
}

int64_t now_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string shown_text(std::string_view piece) {
  // A character that breaks off at the end would be one U+FFFD there, whatever it has of bytes.
  std::string text = valid_utf8(std::string(piece) + ' ');
  text.pop_back();
  return text;
}

const char* finish_reason(StopReason reason) {
  return reason == StopReason::end_of_generation || reason == StopReason::stop_text ? "stop" : "length";
}

void Usage::add(const TextResult& text) {
  prompt_tokens = text.prompt_tokens;  // of all choices it is the same
  reused = std::max(reused, text.reused);
  completion_tokens += text.result.tokens;
}

Json Usage::json() const {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", reused}}}};
}

Json logprob_json(double logprob) { return std::isfinite(logprob) ? logprob : -9999.0; }

Json token_json(const Tokenizer& tokenizer, int32_t token, double logprob) {
  const std::string_view piece = tokenizer.piece(token, /*show_control=*/true);
  Json bytes = Json::array();
  for (const char c : piece) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", shown_text(piece)}, {"logprob", logprob_json(logprob)}, {"bytes", bytes}};
}

void EventStream::begin(Fields headers) {
  begun_ = true;
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");
  exchange_->begin({200, "text/event-stream", "", std::move(headers)});
}

std::optional<ApiError> failure_of(const Service& service, const Result<TextResult>& result) {
  if (!result.ok()) return api_error(result.status());
  const StopReason reason = result->result.reason;
  if (reason != StopReason::cancelled && reason != StopReason::failed) return {};
  if (!result->result.status.ok()) return api_error(result->result.status);
  const char* const why = service.draining ? "the server is ending" : "the text was cancelled";
  return api_error(Status::error(StatusCode::cancelled, why));
}

void check_prompt(const Service& service, size_t tokens, const char* param) {
  const auto refuse = [&](const std::string& message, const char* code) { throw ApiError{400, message, param, code}; };
  if (service.prefixes->size() == 0) {
    refuse(expected_message(param, "a server with StreamOptions.sequences of at least 1", "0"), "unsupported");
  }
  if (tokens == 0) refuse(expected_message(param, "at least one token", "none"), "invalid_value");
  if (service.context == INT64_MAX || static_cast<int64_t>(tokens) <= service.context) return;
  refuse(expected_message(param,
                          "at most " + std::to_string(service.context) +
                              " tokens, the context of this server (StreamOptions.context)",
                          std::to_string(tokens)),
         "context_length_exceeded");
}

void fail(const Exchange& exchange, EventStream& stream, const ApiError& error) {
  if (!stream.begun()) return exchange->answer(error_reply(error));
  stream.send(error_json(error));
  stream.finish();
}

ApiError too_many(const Service& service, const Status& status) {
  ApiError error = api_error(status);
  if (service.draining) error.status = 503;
  const double seconds = service.scheduler->seconds_per_text();
  error.headers.emplace_back("Retry-After",
                             std::to_string(static_cast<int64_t>(std::clamp(std::ceil(seconds), 1.0, 600.0))));
  return error;
}

void submit(Service& service, const Exchange& exchange, const std::vector<std::shared_ptr<Job>>& jobs) {
  if (const int64_t most = service.scheduler->most(); static_cast<int64_t>(jobs.size()) > most) {
    throw ApiError{400,
                   expected_message("texts of one request",
                                    "at most " + std::to_string(most) +
                                        ", which is what may run and wait (SchedulerOptions.most_waiting)",
                                    std::to_string(jobs.size())),
                   "", "invalid_value"};
  }
  exchange->on_gone([jobs] {
    for (const auto& job : jobs) job->cancel();
  });
  for (size_t i = 0; i < jobs.size(); ++i) {
    const Status status = service.scheduler->submit(jobs[i]);
    if (status.ok()) continue;
    for (const auto& job : jobs) job->cancel();
    throw too_many(service, status);
  }
}

Fields prefix_headers(const PrefixStore::Place& place, size_t prompt) {
  std::string text = fmt::format("{} of {} tokens", place.reused, prompt);
  if (!place.reason.empty()) text += "; " + place.reason;
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, '?');
  return {{"X-Kvass-Prefix", text}};
}

void note_text(const Exchange& exchange, const TextResult& text) {
  Fields& notes = exchange->notes();
  notes.emplace_back("prompt_tokens", std::to_string(text.prompt_tokens));
  notes.emplace_back("cached_tokens", std::to_string(text.reused));
  notes.emplace_back("generated_tokens", std::to_string(text.result.tokens));
  notes.emplace_back("stop", std::string(stop_reason_name(text.result.reason)));
  if (!text.detail.empty()) notes.emplace_back("prefix", text.detail);
}

void check_model(Params& params, const std::string& served) {
  const std::optional<std::string> model = params.text("model");
  if (!model || *model == served) return;
  throw ApiError{404, expected_message("model", "'" + served + "', which this server has", in_quotes(*model)), "model",
                 "model_not_found"};
}

}  // namespace kvass::serve
