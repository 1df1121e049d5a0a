// POST /v1/responses, and GET and DELETE of one. A response is kept with its conversation, so that previous_response_id
// goes on from it: the latest kMostKept of them, in at most kMostBytes.
#include <fmt/format.h>

#include <list>
#include <mutex>

#include "app/text.h"
#include "serve/chat_request.h"
#include "serve/openai.h"
#include "serve/text_answer.h"

namespace kvass::serve {
namespace {

constexpr size_t kMostKept = 1024;
constexpr size_t kMostBytes = size_t{64} << 20;

// Any thread.
class Kept {
 public:
  struct Entry {
    std::string id, owner;
    Json messages;  // the conversation up to this answer, without instructions
    std::string response;
  };
  void add(Entry entry) {
    const std::lock_guard lock(mutex_);
    bytes_ += size_of(entry);
    entries_.push_front(std::move(entry));
    while (entries_.size() > kMostKept || (bytes_ > kMostBytes && entries_.size() > 1)) drop(std::prev(entries_.end()));
  }
  std::optional<Entry> find(const std::string& id, const std::string& owner) {
    const std::lock_guard lock(mutex_);
    for (auto one = entries_.begin(); one != entries_.end(); ++one) {
      if (one->id != id || one->owner != owner) continue;
      entries_.splice(entries_.begin(), entries_, one);
      return *one;
    }
    return {};
  }
  bool remove(const std::string& id, const std::string& owner) {
    const std::lock_guard lock(mutex_);
    for (auto one = entries_.begin(); one != entries_.end(); ++one) {
      if (one->id != id || one->owner != owner) continue;
      drop(one);
      return true;
    }
    return false;
  }

 private:
  static size_t size_of(const Entry& entry) { return dump(entry.messages).size() + entry.response.size(); }
  void drop(std::list<Entry>::iterator one) {
    bytes_ -= std::min(bytes_, size_of(*one));
    entries_.erase(one);
  }
  std::mutex mutex_;
  std::list<Entry> entries_;
  size_t bytes_ = 0;
};

class ResponseAnswer final : public TextAnswer {
 public:
  ResponseAnswer(Service& service, const Exchange& exchange, std::shared_ptr<Kept> kept)
      : TextAnswer(service, exchange, "resp_"), kept_(std::move(kept)) {}

  bool store = true;
  Json asked;     // fields that a response repeats
  Json messages;  // the conversation
  SampleOptions sampling;

 private:
  void begin(size_t) override {
    if (!streams_) return;
    send_event("response.created", {{"response", response("in_progress", nullptr)}});
    send_event("response.in_progress", {{"response", response("in_progress", nullptr)}});
    Json empty = item_json("in_progress");
    empty["content"] = Json::array();
    send_event("response.output_item.added", {{"output_index", 0}, {"item", empty}});
    send_event("response.content_part.added", at_part({{"part", part_json()}}));
  }
  void event(size_t, const DecodeEvent& event) override {
    const std::string piece = shown_text(event.text);
    text_ += piece;
    if (!streams_ || piece.empty()) return;
    send_event("response.output_text.delta", at_part({{"delta", piece}, {"logprobs", Json::array()}}));
  }
  void fail(const ApiError& error) override {
    if (!stream_.begun()) return TextAnswer::fail(error);
    send_event("response.failed", {{"response", response("failed", nullptr, &error)}});
    stream_.finish();
  }
  void end(size_t, TextResult& result) override {
    const bool stopped = std::string_view(finish_reason(result.result.reason)) == "stop";
    const char* const status = stopped ? "completed" : "incomplete";
    const Json json = response(status, &result);
    if (store) {
      messages.push_back({{"role", "assistant"}, {"content", text_}});
      kept_->add({id_, exchange_->request().owner, messages, dump(json)});
    }
    if (!streams_) return exchange_->answer({200, "application/json", dump(json), headers_});
    send_event("response.output_text.done", at_part({{"text", text_}, {"logprobs", Json::array()}}));
    send_event("response.content_part.done", at_part({{"part", part_json()}}));
    send_event("response.output_item.done", {{"output_index", 0}, {"item", item_json(status)}});
    send_event(stopped ? "response.completed" : "response.incomplete", {{"response", json}});
    stream_.finish();
  }
  void finish() override {}

  // Of the answer's only part.
  Json at_part(const Json& more) const {
    Json json = {{"item_id", item_}, {"output_index", 0}, {"content_index", 0}};
    json.update(more);
    return json;
  }
  Json part_json() const {
    return {{"type", "output_text"}, {"text", text_}, {"annotations", Json::array()}, {"logprobs", Json::array()}};
  }
  Json item_json(const char* status) const {
    return {{"type", "message"},
            {"id", item_},
            {"status", status},
            {"role", "assistant"},
            {"content", Json::array({part_json()})}};
  }
  Json response(const char* status, const TextResult* result, const ApiError* error = nullptr) const {
    Json json = {
        {"id", id_}, {"object", "response"}, {"created_at", created_}, {"status", status}, {"model", service_.id}};
    json["error"] = error ? Json{{"code", "server_error"}, {"message", in_words(error->message)}} : Json();
    json["incomplete_details"] =
        std::string_view(status) == "incomplete" ? Json{{"reason", "max_output_tokens"}} : Json();
    json["output"] = Json::array();
    if (result) json["output"].push_back(item_json(status));
    json["usage"] = nullptr;
    if (result) {
      json["usage"] = {{"input_tokens", result->prompt_tokens},
                       {"input_tokens_details", {{"cached_tokens", result->reused}}},
                       {"output_tokens", result->result.tokens},
                       {"output_tokens_details", {{"reasoning_tokens", 0}}},
                       {"total_tokens", result->prompt_tokens + result->result.tokens}};
    }
    for (const auto& [name, value] : asked.items()) json[name] = value;
    json["temperature"] = sampling.temperature;
    json["top_p"] = sampling.top_p;
    json["parallel_tool_calls"] = true;
    json["tool_choice"] = "auto";
    json["tools"] = Json::array();
    json["text"] = {{"format", {{"type", "text"}}}};
    json["truncation"] = "disabled";
    json["store"] = store;
    if (result) add_receipt(json, *result);
    json["kvass"] = {{"seed", sampling.seed}, {"system_fingerprint", service_.fingerprint}};
    return json;
  }
  void send_event(const char* type, const Json& event) {
    Json whole = {{"type", type}, {"sequence_number", number_++}};
    whole.update(event);
    if (!stream_.begun()) stream_.begin(headers_);
    stream_.send(type, whole);
  }

  std::shared_ptr<Kept> kept_;
  std::string item_ = new_id("msg_"), text_;
  int64_t number_ = 0;  // of events
};

void responses(Service& service, const std::shared_ptr<Kept>& kept, const Exchange& exchange) {
  Params params(exchange->request().body);
  check_model(params, service.id);
  const auto answer = std::make_shared<ResponseAnswer>(service, exchange, kept);
  ChatRequest request;
  Json messages = Json::array();
  const auto previous = params.text("previous_response_id");
  if (previous) {
    const std::optional<Kept::Entry> before = kept->find(*previous, exchange->request().owner);
    if (!before) {
      throw ApiError{404,
                     expected_message("previous_response_id",
                                      fmt::format("a response that this server keeps (the latest {})", kMostKept),
                                      in_quotes(*previous)),
                     "previous_response_id", "previous_response_not_found"};
    }
    messages = before->messages;
  }
  const Json* input = params.take("input");
  if (input == nullptr) params.refuse("input", "text, or a list of messages", "none");
  if (input->is_string()) {
    messages.push_back({{"role", "user"}, {"content", *input}});
  } else {
    for (Json& message : take_messages(params, "input", *input)) messages.push_back(std::move(message));
  }
  const auto instructions = params.text("instructions");
  request.messages = Json::array();
  if (instructions) request.messages.push_back({{"role", "system"}, {"content", *instructions}});
  for (const Json& message : messages) request.messages.push_back(message);
  take_template(params, request);
  TextRequest text = take_text(params, service, exchange);
  const auto most = params.integer("max_output_tokens", 1, INT64_MAX);
  text.options.max_tokens = most.value_or(INT64_MAX);
  answer->take_stream(params);
  answer->store = params.boolean("store").value_or(true);
  if (params.boolean("background").value_or(false)) params.refuse("background", "false", "true");
  if (const auto cut = params.text("truncation"); cut && *cut != "disabled")
    params.refuse("truncation", "disabled", *cut);
  if (auto format = params.object("text")) {
    take_text_format(*format, "format");
    format->finish();
  }
  refuse_tools(params);
  if (const Json* include = params.take("include"); include && !(include->is_array() && include->empty())) {
    params.refuse("include", "nothing", shown(*include));
  }
  const Json* metadata = params.take("metadata");
  params.harmless({"user", "safety_identifier", "prompt_cache_key", "parallel_tool_calls", "service_tier",
                   "prompt_cache_retention"});
  params.finish();

  answer->asked = {{"instructions", instructions ? Json(*instructions) : Json()},
                   {"max_output_tokens", most ? Json(*most) : Json()},
                   {"previous_response_id", previous ? Json(*previous) : Json()},
                   {"metadata", metadata ? *metadata : Json::object()}};
  answer->messages = std::move(messages);
  answer->sampling = text.options.sampling;
  const std::vector<int32_t> prompt = render(service, request);
  check_prompt(service, prompt.size(), "input");
  answer->start(
      std::move(text), 1, [&](size_t) -> const auto& { return prompt; });
}

ApiError not_found(const std::string& id) {
  return {404, expected_message("response", "one that this server keeps", in_quotes(id)), "", "not_found"};
}

}  // namespace

void add_responses(Router& router, Service& service) {
  auto kept = std::make_shared<Kept>();
  router.add({"POST", "/v1/responses",
              [&service, kept](const Exchange& exchange, const auto&) { responses(service, kept, exchange); }});
  router.add({"GET", "/v1/responses/{id}", [kept](const Exchange& exchange, const auto& arguments) {
                const std::optional<Kept::Entry> entry = kept->find(arguments[0], exchange->request().owner);
                if (!entry) throw not_found(arguments[0]);
                exchange->answer({200, "application/json", entry->response});
              }});
  router.add({"DELETE", "/v1/responses/{id}", [kept](const Exchange& exchange, const auto& arguments) {
                if (!kept->remove(arguments[0], exchange->request().owner)) throw not_found(arguments[0]);
                exchange->answer(
                    {200, "application/json", dump({{"id", arguments[0]}, {"object", "response"}, {"deleted", true}})});
              }});
}

}  // namespace kvass::serve
