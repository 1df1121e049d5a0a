// POST /v1/responses, and GET and DELETE of one. A response is kept with its conversation, so that previous_response_id
// goes on from it: the latest kMostKept of them, in at most kMostBytes.
#include <fmt/format.h>

#include <list>
#include <mutex>

#include "app/text.h"
#include "serve/answer.h"
#include "serve/chat_request.h"
#include "serve/openai.h"

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

struct Answer {
  Answer(Service& from, std::shared_ptr<Kept> keep, Exchange to)
      : service(from), kept(std::move(keep)), exchange(std::move(to)), stream(exchange) {}

  Service& service;
  std::shared_ptr<Kept> kept;
  Exchange exchange;
  EventStream stream;
  std::string id = new_id("resp_"), item = new_id("msg_");
  int64_t created = now_seconds();
  bool streams = false, store = true;
  int64_t number = 0;  // of events
  Json asked;          // fields that a response repeats
  Json messages;
  SampleOptions sampling;
  std::string text;
  Fields headers;

  Json item_json(const char* status, const std::string& said) const {
    return {{"type", "message"},
            {"id", item},
            {"status", status},
            {"role", "assistant"},
            {"content", Json::array({part_json(said)})}};
  }
  static Json part_json(const std::string& said) {
    return {{"type", "output_text"}, {"text", said}, {"annotations", Json::array()}, {"logprobs", Json::array()}};
  }
  Json response(const char* status, const TextResult* result, const ApiError* error = nullptr) const {
    Json json = {
        {"id", id}, {"object", "response"}, {"created_at", created}, {"status", status}, {"model", service.id}};
    json["error"] = error ? Json{{"code", "server_error"}, {"message", error->message}} : Json();
    json["incomplete_details"] =
        std::string_view(status) == "incomplete" ? Json{{"reason", "max_output_tokens"}} : Json();
    json["output"] = Json::array();
    if (result) json["output"].push_back(item_json(status, text));
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
    if (result && result->receipt) json["receipt"] = Json::parse(receipt_json(*result->receipt));
    json["kvass"] = {{"seed", sampling.seed}, {"system_fingerprint", service.fingerprint}};
    return json;
  }
  void send(const char* type, Json event) {
    Json whole = {{"type", type}, {"sequence_number", number++}};
    whole.update(event);
    if (!stream.begun()) stream.begin(headers);
    stream.send(type, whole);
  }
  void begin(const PrefixStore::Place& place, size_t prompt) {
    headers = prefix_headers(place, prompt);
    if (!streams) return;
    send("response.created", {{"response", response("in_progress", nullptr)}});
    send("response.in_progress", {{"response", response("in_progress", nullptr)}});
    Json empty = item_json("in_progress", "");
    empty["content"] = Json::array();
    send("response.output_item.added", {{"output_index", 0}, {"item", empty}});
    send("response.content_part.added",
         {{"item_id", item}, {"output_index", 0}, {"content_index", 0}, {"part", part_json("")}});
  }
  void event(const DecodeEvent& event) {
    text += shown_text(event.text);
    if (!streams || event.text.empty()) return;
    send("response.output_text.delta", {{"item_id", item},
                                        {"output_index", 0},
                                        {"content_index", 0},
                                        {"delta", shown_text(event.text)},
                                        {"logprobs", Json::array()}});
  }
  void end(const Result<TextResult>& result) {
    const bool whole =
        result.ok() && result->result.reason != StopReason::failed && result->result.reason != StopReason::cancelled;
    if (!whole) {
      if (exchange->gone()) return;
      Status status = result.ok() ? result->result.status : result.status();
      if (status.ok()) status = cut_status(service);
      const ApiError error = api_error(status);
      if (!stream.begun()) return exchange->answer(error_reply(error));
      send("response.failed", {{"response", response("failed", nullptr, &error)}});
      return stream.finish();
    }
    note_text(exchange, result.value());
    const bool stopped = std::string_view(finish_reason(result->result.reason)) == "stop";
    const char* const status = stopped ? "completed" : "incomplete";
    const Json json = response(status, &result.value());
    if (store) {
      messages.push_back({{"role", "assistant"}, {"content", text}});
      kept->add({id, exchange->request().owner, messages, dump(json)});
    }
    if (!streams) return exchange->answer({200, "application/json", dump(json), headers});
    const std::string said = text;
    send("response.output_text.done",
         {{"item_id", item}, {"output_index", 0}, {"content_index", 0}, {"text", said}, {"logprobs", Json::array()}});
    send("response.content_part.done",
         {{"item_id", item}, {"output_index", 0}, {"content_index", 0}, {"part", part_json(said)}});
    send("response.output_item.done", {{"output_index", 0}, {"item", item_json(status, said)}});
    send(stopped ? "response.completed" : "response.incomplete", {{"response", json}});
    stream.finish();
  }
};

void responses(Service& service, const std::shared_ptr<Kept>& kept, const Exchange& exchange) {
  Params params(exchange->request().body);
  check_model(params, service, service.id);
  auto answer = std::make_shared<Answer>(service, kept, exchange);
  ChatRequest request;
  Json messages = Json::array();
  const auto previous = params.text("previous_response_id");
  if (previous) {
    const std::optional<Kept::Entry> before = kept->find(*previous, exchange->request().owner);
    if (!before) {
      throw ApiError{404,
                     expected_message("previous_response_id",
                                      fmt::format("a response that this server keeps (the latest {})", kMostKept),
                                      "'" + valid_utf8(*previous).substr(0, 100) + "'"),
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
  TextRequest text;
  text.owner = exchange->request().owner;
  text.options.sampling = take_sampling(params, service.session->engine().program().vocabulary(), service.sampling);
  text.options.ignore_eos = params.boolean("ignore_eos").value_or(false);
  text.penalties = take_penalties(params);
  text.receipt = params.boolean("receipt").value_or(false);
  const auto most = params.integer("max_output_tokens", 1, INT64_MAX);
  text.options.max_tokens = most.value_or(INT64_MAX);
  answer->streams = params.boolean("stream").value_or(false);
  answer->store = params.boolean("store").value_or(true);
  if (params.boolean("background").value_or(false)) params.refuse("background", "false", "true");
  if (const auto cut = params.text("truncation"); cut && *cut != "disabled")
    params.refuse("truncation", "disabled", *cut);
  if (auto format = params.object("text")) {
    if (auto kind = format->object("format")) {
      const std::string type = kind->text("type").value_or("none");
      if (type != "text") params.refuse("text.format.type", "text", "'" + valid_utf8(type) + "'");
      kind->finish();
    }
    format->finish();
  }
  if (const Json* tools = params.take("tools"); tools && !(tools->is_array() && tools->empty())) {
    params.refuse("tools", "none: this server does not call tools yet", "some");
  }
  if (const Json* choice = params.take("tool_choice"); choice && *choice != "none" && *choice != "auto") {
    params.refuse("tool_choice", "none or auto", shown(*choice));
  }
  if (const Json* include = params.take("include"); include && !(include->is_array() && include->empty())) {
    params.refuse("include", "nothing", shown(*include));
  }
  const Json* metadata = params.take("metadata");
  params.harmless({"user", "safety_identifier", "prompt_cache_key", "parallel_tool_calls", "service_tier",
                   "stream_options", "prompt_cache_retention"});
  params.finish();

  answer->asked = {{"instructions", instructions ? Json(*instructions) : Json()},
                   {"max_output_tokens", most ? Json(*most) : Json()},
                   {"previous_response_id", previous ? Json(*previous) : Json()},
                   {"metadata", metadata ? *metadata : Json::object()}};
  answer->messages = std::move(messages);
  answer->sampling = text.options.sampling;
  text.prompt = render(service, request);
  check_prompt(service, text.prompt.size(), "input");
  const size_t prompt = text.prompt.size();
  submit(
      service, exchange,
      {std::make_shared<TextJob>(
          service, std::move(text), [answer, prompt](const PrefixStore::Place& place) { answer->begin(place, prompt); },
          [answer](const DecodeEvent& event) { answer->event(event); },
          [answer](const Result<TextResult>& result) { answer->end(result); })});
}

ApiError not_found(const std::string& id) {
  return {404, expected_message("response", "one that this server keeps", "'" + valid_utf8(id).substr(0, 100) + "'"),
          "", "not_found"};
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
