// POST /v1/chat/completions.
#include <fmt/format.h>

#include "app/text.h"
#include "serve/answer.h"
#include "serve/chat_request.h"
#include "serve/openai.h"

namespace kvass::serve {
namespace {

constexpr int64_t kMostTop = 20;

// A request and what became of it so far. Its jobs' calls come on the scheduler's thread.
struct ChatAnswer {
  ChatAnswer(Service& from, Exchange to) : service(from), exchange(std::move(to)), stream(exchange) {}

  struct Choice {
    std::string text;
    Json logprobs = Json::array();
    const char* finish = nullptr;
    std::string receipt;  // JSON; empty: not asked for
  };

  Service& service;
  Exchange exchange;
  EventStream stream;
  std::string id = new_id("chatcmpl-");
  int64_t created = now_seconds();
  bool streams = false, wants_usage = false, wants_logprobs = false;
  uint64_t seed = 0;
  std::vector<Choice> choices;
  std::vector<std::shared_ptr<Job>> jobs;
  size_t open = 0;
  Usage usage;
  Fields headers;
  bool failed = false;

  Json base(const char* object) const {
    return {{"id", id},
            {"object", object},
            {"created", created},
            {"model", service.id},
            {"system_fingerprint", service.fingerprint}};
  }
  static void add_receipt(Json& choice, const std::string& receipt) {
    if (!receipt.empty()) choice["receipt"] = Json::parse(receipt);
  }
  void send_delta(size_t index, Json delta, const char* finish, Json logprobs) {
    Json chunk = base("chat.completion.chunk");
    Json choice = {{"index", index}, {"delta", std::move(delta)}, {"finish_reason", finish ? Json(finish) : Json()}};
    choice["logprobs"] =
        wants_logprobs && !logprobs.is_null() ? Json{{"content", std::move(logprobs)}, {"refusal", nullptr}} : Json();
    if (finish) add_receipt(choice, choices[index].receipt);
    chunk["choices"] = Json::array({std::move(choice)});
    if (wants_usage) chunk["usage"] = nullptr;
    if (!stream.begun()) stream.begin(headers);
    stream.send(chunk);
  }
  Json logprobs_json(const TokenLogprobs& of) const {
    Json json = token_json(*service.model.tokenizer, of.token, of.logprob);
    json["top_logprobs"] = Json::array();
    for (const auto& [token, logprob] : of.top) {
      json["top_logprobs"].push_back(token_json(*service.model.tokenizer, token, logprob));
    }
    return json;
  }

  void begin(size_t index, const PrefixStore::Place& place, size_t prompt) {
    if (headers.empty()) headers = prefix_headers(place, prompt);
    if (streams && !failed) send_delta(index, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
  }
  void event(size_t index, const DecodeEvent& event) {
    if (failed) return;
    Choice& choice = choices[index];
    Json entry;
    if (event.logprobs != nullptr && wants_logprobs) {
      entry = logprobs_json(*event.logprobs);
      if (!streams) choice.logprobs.push_back(entry);
    }
    if (!streams) {
      choice.text += shown_text(event.text);
    } else if (!event.text.empty() || !entry.is_null()) {
      send_delta(index, {{"content", shown_text(event.text)}}, nullptr,
                 entry.is_null() ? entry : Json::array({std::move(entry)}));
    }
  }
  void end(size_t index, const Result<TextResult>& result) {
    if (--open == 0) jobs.clear();  // which hold this
    if (failed) return;
    const Status status =
        !result.ok() ? result.status()
        : result->result.reason == StopReason::failed || result->result.reason == StopReason::cancelled
            ? result->result.status
            : Status();
    if (!result.ok() || !status.ok() || result->result.reason == StopReason::cancelled) {
      failed = true;
      for (const auto& job : jobs) job->cancel();
      if (exchange->gone()) return;
      fail(exchange, stream, api_error(status.ok() ? cut_status(service) : status));
      return;
    }
    choices[index].finish = finish_reason(result->result.reason);
    usage.add(result.value());
    if (result->receipt) choices[index].receipt = receipt_json(*result->receipt);
    note_text(exchange, result.value());
    if (streams) send_delta(index, Json::object(), choices[index].finish, nullptr);
    if (open == 0) finish();
  }
  Json own() const { return {{"seed", seed}}; }
  void finish() {
    if (streams) {
      if (wants_usage) {
        Json chunk = base("chat.completion.chunk");
        chunk["choices"] = Json::array();
        chunk["usage"] = usage.json();
        chunk["kvass"] = own();
        stream.send(chunk);
      }
      return stream.done();
    }
    Json whole = base("chat.completion");
    whole["choices"] = Json::array();
    for (size_t i = 0; i < choices.size(); ++i) {
      Json choice = {{"index", i},
                     {"message", {{"role", "assistant"}, {"content", choices[i].text}, {"refusal", nullptr}}},
                     {"finish_reason", choices[i].finish}};
      choice["logprobs"] = wants_logprobs ? Json{{"content", choices[i].logprobs}, {"refusal", nullptr}} : Json();
      add_receipt(choice, choices[i].receipt);
      whole["choices"].push_back(std::move(choice));
    }
    whole["usage"] = usage.json();
    whole["kvass"] = own();
    exchange->answer({200, "application/json", dump(whole), headers});
  }
};

void chat_completions(Service& service, const Exchange& exchange) {
  Params params(exchange->request().body);
  check_model(params, service, service.id);
  ChatRequest request;
  const Json* messages = params.take("messages");
  if (messages == nullptr) params.refuse("messages", "a list of messages", "none");
  request.messages = take_messages(params, "messages", *messages);
  take_template(params, request);
  TextRequest text;
  text.owner = exchange->request().owner;
  text.options.sampling = take_sampling(params, service.session->engine().program().vocabulary(), service.sampling);
  text.options.stops = params.texts("stop", 64);
  text.options.ignore_eos = params.boolean("ignore_eos").value_or(false);
  text.penalties = take_penalties(params);
  text.receipt = params.boolean("receipt").value_or(false);
  if (params.has("max_tokens") && params.has("max_completion_tokens")) {
    params.refuse("max_tokens", "one name for it", "max_completion_tokens too");
  }
  const auto most = params.integer("max_tokens", 1, INT64_MAX);
  text.options.max_tokens = params.integer("max_completion_tokens", 1, INT64_MAX).value_or(most.value_or(INT64_MAX));
  auto answer = std::make_shared<ChatAnswer>(service, exchange);
  answer->streams = params.boolean("stream").value_or(false);
  answer->wants_logprobs = params.boolean("logprobs").value_or(false);
  const auto top = params.integer("top_logprobs", 0, kMostTop);
  if (top && !answer->wants_logprobs) params.refuse("top_logprobs", "logprobs: true beside it", "none");
  if (answer->wants_logprobs) text.logprobs = top.value_or(0);
  if (auto options = params.object("stream_options")) {
    if (!answer->streams) params.refuse("stream_options", "stream: true beside it", "none");
    answer->wants_usage = options->boolean("include_usage").value_or(false);
    options->harmless({"include_obfuscation"});
    options->finish();
  }
  const int64_t n = params.integer("n", 1, service.most_choices).value_or(1);
  if (auto format = params.object("response_format")) {
    const std::string type = format->text("type").value_or("none");
    if (type != "text") params.refuse("response_format.type", "text", "'" + valid_utf8(type) + "'");
    format->finish();
  }
  if (const auto effort = params.text("reasoning_effort"); effort && *effort != "none") {
    params.refuse("reasoning_effort", "none (chat_template_kwargs has what templates know)", *effort);
  }
  if (const Json* modalities = params.take("modalities"); modalities && *modalities != Json::array({"text"})) {
    params.refuse("modalities", "[\"text\"]", shown(*modalities));
  }
  if (const Json* tools = params.take("tools"); tools && !(tools->is_array() && tools->empty())) {
    params.refuse("tools", "none: this server does not call tools yet", "some");
  }
  if (const Json* choice = params.take("tool_choice"); choice && *choice != "none" && *choice != "auto") {
    params.refuse("tool_choice", "none or auto", shown(*choice));
  }
  params.harmless({"user", "store", "metadata", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
                   "service_tier", "prompt_cache_retention"});
  params.finish();

  text.prompt = render(service, request);
  check_prompt(service, text.prompt.size(), "messages");
  const uint64_t seed = answer->seed = text.options.sampling.seed;
  answer->choices.resize(static_cast<size_t>(n));
  answer->open = static_cast<size_t>(n);
  for (size_t i = 0; i < answer->choices.size(); ++i) {
    text.options.sampling.seed = seed + i;
    const size_t prompt = text.prompt.size();
    answer->jobs.push_back(std::make_shared<TextJob>(
        service, text, [answer, i, prompt](const PrefixStore::Place& place) { answer->begin(i, place, prompt); },
        [answer, i](const DecodeEvent& event) { answer->event(i, event); },
        [answer, i](const Result<TextResult>& result) { answer->end(i, result); }));
  }
  const std::vector<std::shared_ptr<Job>> jobs = answer->jobs;
  submit(service, exchange, jobs);
}

}  // namespace

void add_chat_completions(Router& router, Service& service) {
  router.add({"POST", "/v1/chat/completions",
              [&service](const Exchange& exchange, const auto&) { chat_completions(service, exchange); }});
}

}  // namespace kvass::serve
