// POST /v1/chat/completions.
#include "app/text.h"
#include "serve/chat_request.h"
#include "serve/openai.h"
#include "serve/text_answer.h"

namespace kvass::serve {
namespace {

class ChatAnswer final : public TextAnswer {
 public:
  ChatAnswer(Service& service, const Exchange& exchange) : TextAnswer(service, exchange, "chatcmpl-") {}

  struct Text {
    std::string text;
    Json logprobs = Json::array();
    Json choice;  // as a whole answer has it, once the text has ended
  };
  bool wants_logprobs = false;
  std::vector<Text> texts;

 protected:
  void begin(size_t index) override {
    if (streams_) send_delta(index, {{"role", "assistant"}, {"content", ""}}, {}, {});
  }
  void event(size_t index, const DecodeEvent& event) override {
    const std::string text = shown_text(event.text);
    Json entry;
    if (event.logprobs != nullptr && wants_logprobs) entry = logprobs_json(*event.logprobs);
    if (streams_) {
      if (!text.empty() || !entry.is_null()) {
        send_delta(index, {{"content", text}}, {}, entry.is_null() ? entry : Json::array({std::move(entry)}));
      }
      return;
    }
    texts[index].text += text;
    if (!entry.is_null()) texts[index].logprobs.push_back(std::move(entry));
  }
  void end(size_t index, TextResult& result) override {
    usage_.add(result);
    const char* const finish = finish_reason(result.result.reason);
    if (streams_) {
      Json receipt = Json::object();
      add_receipt(receipt, result);
      return send_delta(index, Json::object(), finish, {}, receipt);
    }
    Text& text = texts[index];
    Json& choice = text.choice;
    choice = {{"index", index},
              {"message", {{"role", "assistant"}, {"content", std::move(text.text)}, {"refusal", nullptr}}},
              {"finish_reason", finish}};
    choice["logprobs"] = wants_logprobs ? content_json(std::move(text.logprobs)) : Json();
    add_receipt(choice, result);
  }
  void finish() override {
    if (streams_) return end_stream("chat.completion.chunk", usage_.json());
    Json whole = base("chat.completion");
    whole["choices"] = Json::array();
    for (Text& text : texts) whole["choices"].push_back(std::move(text.choice));
    answer(std::move(whole), usage_.json());
  }

 private:
  static Json content_json(Json logprobs) { return {{"content", std::move(logprobs)}, {"refusal", nullptr}}; }
  void send_delta(size_t index, Json delta, Json finish, Json logprobs, const Json& more = Json::object()) {
    Json choice = {{"index", index}, {"delta", std::move(delta)}, {"finish_reason", std::move(finish)}};
    choice["logprobs"] = logprobs.is_null() ? Json() : content_json(std::move(logprobs));
    choice.update(more);
    Json chunk = base("chat.completion.chunk");
    chunk["choices"] = Json::array({std::move(choice)});
    send(std::move(chunk));
  }
  Json logprobs_json(const TokenLogprobs& of) const {
    Json json = token_json(*service_.model.tokenizer, of.token, of.logprob);
    json["top_logprobs"] = Json::array();
    for (const auto& [token, logprob] : of.top) {
      json["top_logprobs"].push_back(token_json(*service_.model.tokenizer, token, logprob));
    }
    return json;
  }

  Usage usage_;
};

void chat_completions(Service& service, const Exchange& exchange) {
  Params params(exchange->request().body);
  check_model(params, service.id);
  ChatRequest request;
  const Json* messages = params.take("messages");
  if (messages == nullptr) params.refuse("messages", "a list of messages", "none");
  request.messages = take_messages(params, "messages", *messages);
  take_template(params, request);
  TextRequest text = take_text(params, service, exchange);
  text.options.stops = params.texts("stop", kMostStops);
  if (params.has("max_tokens") && params.has("max_completion_tokens")) {
    params.refuse("max_tokens", "one name for it", "max_completion_tokens too");
  }
  const auto most = params.integer("max_tokens", 1, INT64_MAX);
  text.options.max_tokens = params.integer("max_completion_tokens", 1, INT64_MAX).value_or(most.value_or(INT64_MAX));
  const auto answer = std::make_shared<ChatAnswer>(service, exchange);
  answer->take_stream(params);
  answer->wants_logprobs = params.boolean("logprobs").value_or(false);
  const auto top = params.integer("top_logprobs", 0, kMostTopLogprobs);
  if (top && !answer->wants_logprobs) params.refuse("top_logprobs", "logprobs: true beside it", "none");
  if (answer->wants_logprobs) text.logprobs = top.value_or(0);
  answer->texts.resize(static_cast<size_t>(params.integer("n", 1, kMostChoices).value_or(1)));
  take_text_format(params, "response_format");
  if (const auto effort = params.text("reasoning_effort"); effort && *effort != "none") {
    params.refuse("reasoning_effort", "none (chat_template_kwargs has what templates know)", *effort);
  }
  if (const Json* modalities = params.take("modalities"); modalities && *modalities != Json::array({"text"})) {
    params.refuse("modalities", "[\"text\"]", shown(*modalities));
  }
  refuse_tools(params);
  params.harmless({"user", "store", "metadata", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
                   "service_tier", "prompt_cache_retention"});
  params.finish();

  const std::vector<int32_t> prompt = render(service, request);
  check_prompt(service, prompt.size(), "messages");
  answer->start(
      std::move(text), answer->texts.size(), [&](size_t) -> const auto& { return prompt; });
}

}  // namespace

void add_chat_completions(Router& router, Service& service) {
  router.add({"POST", "/v1/chat/completions",
              [&service](const Exchange& exchange, const auto&) { chat_completions(service, exchange); }});
}

}  // namespace kvass::serve
