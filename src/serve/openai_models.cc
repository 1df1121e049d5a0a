// GET /v1/models, POST /tokenize, POST /detokenize, and what this model has not: embeddings.
#include <fmt/format.h>

#include "app/text.h"
#include "serve/answer.h"
#include "serve/chat_request.h"
#include "serve/openai.h"
#include "serve/speech.h"

namespace kvass::serve {
namespace {

Json model_json(const Service& service, const std::string& id) {
  Json json = {{"id", id}, {"object", "model"}, {"created", service.created}, {"owned_by", "kvass"}};
  if (id == service.id) {
    json["meta"] = {{"family", service.model.family},
                    {"vocabulary", service.session->engine().program().vocabulary()},
                    {"context", service.context == INT64_MAX ? Json() : Json(service.context)},
                    {"trained_context", service.model.trained_context},
                    {"system_fingerprint", service.fingerprint}};
  }
  return json;
}

std::vector<std::string> model_ids(const Service& service) {
  std::vector<std::string> ids = {service.id};
  if (service.speech) ids.push_back(service.speech->id());
  return ids;
}

// Text as the ids that prompts have: with the token that begins a text unless add_special is false.
void tokenize(Service& service, const Exchange& exchange) {
  Params params(exchange->request().body);
  check_model(params, service.id);
  const Tokenizer& tokenizer = *service.model.tokenizer;
  std::vector<int32_t> ids;
  if (const Json* messages = params.take("messages")) {
    ChatRequest request;
    request.messages = take_messages(params, "messages", *messages);
    take_template(params, request);
    params.finish();
    ids = render(service, request);
  } else {
    const bool two = params.has("content") && params.has("prompt");
    if (two) params.refuse("content", "one name for the text", "prompt too");
    std::optional<std::string> text = params.text("content");
    if (!text) text = params.text("prompt");
    if (!text) params.refuse("content", "text", "none");
    const bool two_names = params.has("add_special") && params.has("add_special_tokens");
    if (two_names) params.refuse("add_special", "one name for it", "add_special_tokens too");
    const std::optional<bool> special_tokens = params.boolean("add_special_tokens");
    const bool bos = params.boolean("add_special").value_or(special_tokens.value_or(true)) && tokenizer.add_bos();
    const bool special = params.boolean("parse_special").value_or(true);
    params.finish();
    const TextPart part{*text, special};
    ids = tokenizer.encode_parts(std::span(&part, 1), bos, /*continued=*/false);
  }
  exchange->answer({200, "application/json", dump({{"tokens", ids}, {"count", ids.size()}})});
}

void detokenize(Service& service, const Exchange& exchange) {
  Params params(exchange->request().body);
  check_model(params, service.id);
  const Json* tokens = params.take("tokens");
  params.finish();
  if (tokens == nullptr) params.refuse("tokens", "a list of token ids", "none");
  const std::vector<int32_t> ids = take_ids(params, "tokens", *tokens, service.model.tokenizer->size());
  const std::string text = valid_utf8(service.model.tokenizer->decode(ids));
  exchange->answer({200, "application/json", dump({{"content", text}, {"prompt", text}})});
}

}  // namespace

void add_models(Router& router, Service& service) {
  router.add({"GET", "/v1/models", [&service](const Exchange& exchange, const auto&) {
                Json list = Json::array();
                for (const std::string& id : model_ids(service)) list.push_back(model_json(service, id));
                exchange->answer({200, "application/json", dump({{"object", "list"}, {"data", list}})});
              }});
  router.add({"GET", "/v1/models/{id}", [&service](const Exchange& exchange, const auto& arguments) {
                for (const std::string& id : model_ids(service)) {
                  if (id == arguments[0])
                    return exchange->answer({200, "application/json", dump(model_json(service, id))});
                }
                throw ApiError{404, expected_message("model", "'" + service.id + "'", in_quotes(arguments[0])), "model",
                               "model_not_found"};
              }});
  router.add({"GET", "/tokenizer_info", [&service](const Exchange& exchange, const auto&) {
                const Tokenizer& tokenizer = *service.model.tokenizer;
                const auto piece = [&](int32_t id) {
                  return id < 0 ? Json() : Json(valid_utf8(tokenizer.piece(id, /*show_control=*/true)));
                };
                const std::string& style = service.model.chat_template;
                exchange->answer({200, "application/json",
                                  dump({{"bos_token", piece(tokenizer.bos())},
                                        {"eos_token", piece(tokenizer.eos())},
                                        {"pad_token", nullptr},
                                        {"add_bos_token", tokenizer.add_bos()},
                                        {"chat_template", style.empty() ? Json() : Json(style)}})});
              }});
  router.add({"POST", "/tokenize", [&service](const Exchange& exchange, const auto&) { tokenize(service, exchange); }});
  router.add(
      {"POST", "/detokenize", [&service](const Exchange& exchange, const auto&) { detokenize(service, exchange); }});
  router.add({"POST", "/v1/embeddings", [&service](const Exchange&, const auto&) {
                throw ApiError{404,
                               expected_message("embeddings", "a model that is made for them",
                                                "'" + service.id + "', which writes text and has no pooled output"),
                               "model", "unsupported"};
              }});
}

}  // namespace kvass::serve
