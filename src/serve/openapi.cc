// GET /openapi.json: what the endpoints take and give (OpenAPI 3.1).
#include "kvass/version.h"
#include "serve/params.h"
#include "serve/server.h"

namespace kvass::serve {
namespace {

Json ref(const char* name) { return {{"$ref", std::string("#/components/schemas/") + name}}; }
Json of(const char* type) { return {{"type", type}}; }
Json or_null(const char* type) { return {{"type", Json::array({type, "null"})}}; }
Json list(Json items) { return {{"type", "array"}, {"items", std::move(items)}}; }
Json range(const char* type, Json least, Json most) {
  Json json = {{"type", Json::array({type, "null"})}};
  if (!least.is_null()) json["minimum"] = least;
  if (!most.is_null()) json["maximum"] = most;
  return json;
}
Json object(Json properties, Json required = Json::array()) {
  return {{"type", "object"}, {"properties", std::move(properties)}, {"required", std::move(required)}};
}
// A request's body: nothing beside what is named.
Json request(Json properties, Json required = Json::array()) {
  Json json = object(std::move(properties), std::move(required));
  json["additionalProperties"] = false;
  return json;
}

Json sampling() {
  return {{"temperature", range("number", 0, nullptr)},
          {"top_p", {{"type", Json::array({"number", "null"})}, {"exclusiveMinimum", 0}, {"maximum", 1}}},
          {"top_k", range("integer", -1, 2147483647)},
          {"min_p", range("number", 0, 1)},
          {"repeat_penalty", range("number", 0.000001, 1000000)},
          {"repeat_last_n", range("integer", 0, 1048576)},
          {"presence_penalty", range("number", -2, 2)},
          {"frequency_penalty", range("number", -2, 2)},
          {"seed", or_null("integer")},
          {"logit_bias", {{"type", Json::array({"object", "null"})}, {"additionalProperties", of("number")}}}};
}

Json without_penalties(Json properties) {  // sessions are saved without what they would count
  properties.erase("presence_penalty");
  properties.erase("frequency_penalty");
  return properties;
}

Json with(Json a, const Json& b) {
  a.update(b);
  return a;
}

Json stop() {
  return {{"anyOf",
           {{{"type", "string"}, {"minLength", 1}},
            {{"type", "array"}, {"items", {{"type", "string"}, {"minLength", 1}}}, {"maxItems", 64}},
            {{"type", "null"}}}}};
}

Json schemas() {
  const Json content = {{"anyOf",
                         {of("string"), list(request({{"type", {{"enum", {"text", "input_text", "output_text"}}}},
                                                      {"text", of("string")}},
                                                     {"type", "text"}))}}};
  Json all;
  all["Error"] = object({{"error", object({{"message", of("string")},
                                           {"type", of("string")},
                                           {"param", or_null("string")},
                                           {"code", or_null("string")}},
                                          {"message", "type"})}},
                        {"error"});
  all["Message"] = request({{"role", {{"enum", {"system", "developer", "user", "assistant"}}}},
                            {"content", content},
                            {"name", of("string")}},
                           {"role", "content"});
  all["Usage"] = object({{"prompt_tokens", of("integer")},
                         {"completion_tokens", of("integer")},
                         {"total_tokens", of("integer")},
                         {"prompt_tokens_details", object({{"cached_tokens", of("integer")}}, {"cached_tokens"})}},
                        {"prompt_tokens", "completion_tokens", "total_tokens"});
  const Json stream = {{"stream", or_null("boolean")},
                       {"stream_options",
                        {{"type", Json::array({"object", "null"})},
                         {"properties", {{"include_usage", of("boolean")}, {"include_obfuscation", of("boolean")}}},
                         {"additionalProperties", false}}}};
  const Json common = with(with(sampling(), stream), {{"model", or_null("string")},
                                                      {"ignore_eos", or_null("boolean")},
                                                      {"receipt", or_null("boolean")},
                                                      {"user", of("string")}});
  all["ChatRequest"] =
      request(with(common, {{"messages", {{"type", "array"}, {"items", ref("Message")}, {"minItems", 1}}},
                            {"max_tokens", range("integer", 1, nullptr)},
                            {"max_completion_tokens", range("integer", 1, nullptr)},
                            {"stop", stop()},
                            {"n", range("integer", 1, 16)},
                            {"logprobs", or_null("boolean")},
                            {"top_logprobs", range("integer", 0, 20)},
                            {"chat_template_kwargs", or_null("object")},
                            {"add_generation_prompt", or_null("boolean")},
                            {"continue_final_message", or_null("boolean")},
                            {"response_format",
                             {{"type", Json::array({"object", "null"})},
                              {"properties", {{"type", {{"const", "text"}}}}},
                              {"required", {"type"}},
                              {"additionalProperties", false}}}}),
              {"messages"});
  all["CompletionRequest"] = request(
      with(common,
           {{"prompt",
             {{"anyOf",
               {of("string"),
                {{"type", "array"}, {"items", of("string")}, {"minItems", 1}, {"maxItems", 256}},
                {{"type", "array"}, {"items", range("integer", 0, nullptr)}, {"minItems", 1}},
                {{"type", "array"},
                 {"items", {{"type", "array"}, {"items", of("integer")}, {"minItems", 1}}},
                 {"minItems", 1},
                 {"maxItems", 256}}}}}},
            {"max_tokens", range("integer", 0, nullptr)},
            {"stop", stop()},
            {"n", range("integer", 1, 16)},
            {"best_of", range("integer", 1, 128)},
            {"echo", or_null("boolean")},
            {"logprobs", {{"type", Json::array({"integer", "boolean", "null"})}, {"minimum", 0}, {"maximum", 20}}},
            {"suffix", {{"enum", {"", nullptr}}}}}),
      {"prompt"});
  Json response =
      with(with(sampling(), stream),
           {{"model", or_null("string")},
            {"ignore_eos", or_null("boolean")},
            {"receipt", or_null("boolean")},
            {"input", {{"anyOf", {of("string"), {{"type", "array"}, {"items", ref("Message")}, {"minItems", 1}}}}}},
            {"instructions", or_null("string")},
            {"previous_response_id", or_null("string")},
            {"max_output_tokens", range("integer", 1, nullptr)},
            {"store", or_null("boolean")},
            {"metadata", or_null("object")},
            {"truncation", {{"enum", {"disabled", nullptr}}}}});
  all["ResponseRequest"] = request(response, {"input"});
  const Json id = {{"type", "string"}, {"pattern", "^[A-Za-z0-9_-]{1,64}$"}};
  all["SessionRequest"] = request(with(without_penalties(sampling()), {{"id", id},
                                                                       {"model", or_null("string")},
                                                                       {"system", or_null("string")},
                                                                       {"stop", stop()},
                                                                       {"endless", or_null("boolean")},
                                                                       {"chat_template_kwargs", or_null("object")}}));
  all["Session"] = object({{"id", id},
                           {"object", {{"const", "session"}}},
                           {"turns", or_null("integer")},
                           {"length", or_null("integer")},
                           {"in_memory", of("boolean")},
                           {"saved", of("boolean")},
                           {"busy", of("boolean")},
                           {"layout", of("string")}},
                          {"id", "object"});
  all["MessageRequest"] = request({{"content", of("string")},
                                   {"role", {{"const", "user"}}},
                                   {"model", or_null("string")},
                                   {"max_tokens", range("integer", 1, nullptr)},
                                   {"stream", or_null("boolean")}},
                                  {"content"});
  all["AppendRequest"] = request({{"text", or_null("string")}, {"ids", list(range("integer", 0, nullptr))}});
  all["ForkRequest"] = request({{"id", id}});
  all["RewindRequest"] = request({{"turns", range("integer", 0, nullptr)}, {"position", range("integer", 0, nullptr)}});
  all["TokenizeRequest"] = request({{"model", or_null("string")},
                                    {"content", or_null("string")},
                                    {"prompt", or_null("string")},
                                    {"messages", list(ref("Message"))},
                                    {"add_special", or_null("boolean")},
                                    {"add_special_tokens", or_null("boolean")},
                                    {"parse_special", or_null("boolean")},
                                    {"add_generation_prompt", or_null("boolean")},
                                    {"continue_final_message", or_null("boolean")},
                                    {"chat_template_kwargs", or_null("object")}});
  all["DetokenizeRequest"] =
      request({{"model", or_null("string")}, {"tokens", list(range("integer", 0, nullptr))}}, {"tokens"});
  return all;
}

Json answer(const char* description, Json schema, bool stream = false) {
  Json content = {{"application/json", {{"schema", std::move(schema)}}}};
  if (stream) content["text/event-stream"] = Json::object();
  return {{"description", description}, {"content", std::move(content)}};
}

Json errors(Json answers) {
  for (const char* code : {"400", "401", "403", "404", "405", "409", "413", "415", "429", "503", "507"})
    answers[code] = answer("refused; the message says what was expected, and what was got", ref("Error"));
  return answers;
}

Json post(const char* id, const char* summary, const char* schema, Json answers, bool body = true) {
  return {{"operationId", id},
          {"summary", summary},
          {"requestBody", {{"required", body}, {"content", {{"application/json", {{"schema", ref(schema)}}}}}}},
          {"responses", errors(std::move(answers))}};
}
Json get(const char* id, const char* summary, Json answers) {
  return {{"operationId", id}, {"summary", summary}, {"responses", errors(std::move(answers))}};
}

Json with_id(Json operations, const char* name = "id") {
  operations["parameters"] =
      Json::array({{{"name", name}, {"in", "path"}, {"required", true}, {"schema", of("string")}}});
  return operations;
}

Json audio(const char* id, const char* summary) {
  const Json properties = {{"file", {{"type", "string"}, {"format", "binary"}}},
                           {"model", of("string")},
                           {"language", of("string")},
                           {"prompt", of("string")},
                           {"response_format", {{"enum", {"json", "text", "srt", "verbose_json", "vtt"}}}},
                           {"temperature", {{"type", "number"}, {"minimum", 0}, {"maximum", 1}}},
                           {"timestamp_granularities[]", list({{"enum", {"word", "segment"}}})},
                           {"stream", of("boolean")},
                           {"vad_filter", of("boolean")}};
  return {{"operationId", id},
          {"summary", summary},
          {"requestBody",
           {{"required", true}, {"content", {{"multipart/form-data", {{"schema", request(properties, {"file"})}}}}}}},
          {"responses", errors({{"200",
                                 {{"description", "the transcript, in the form that was asked for"},
                                  {"content",
                                   {{"application/json", {{"schema", of("object")}}},
                                    {"text/plain", {{"schema", of("string")}}},
                                    {"text/vtt", {{"schema", of("string")}}},
                                    {"application/x-subrip", {{"schema", of("string")}}},
                                    {"text/event-stream", {{"schema", of("string")}}}}}}}})}};
}

}  // namespace

std::string openapi_json(const Service& service) {
  const Json object_answer = {{"200", answer("done", of("object"))}};
  const Json streamed = {{"200", answer("done", of("object"), /*stream=*/true)}};
  const Json session = {{"200", answer("the session", ref("Session"))}};
  const Json created = {{"201", answer("the session", ref("Session"))}};
  Json paths;
  paths["/v1/models"] = {{"get", get("models", "The models of this server", object_answer)}};
  paths["/v1/models/{id}"] = with_id({{"get", get("model", "One of them", object_answer)}});
  paths["/v1/chat/completions"] = {
      {"post", post("chatCompletions", "An answer to a conversation", "ChatRequest", streamed)}};
  paths["/v1/completions"] = {{"post", post("completions", "Text after a prompt", "CompletionRequest", streamed)}};
  paths["/v1/responses"] = {{"post", post("responses", "An answer that is kept", "ResponseRequest", streamed)}};
  paths["/v1/responses/{id}"] = with_id({{"get", get("response", "A kept answer", object_answer)},
                                         {"delete", get("deleteResponse", "Forget it", object_answer)}});
  paths["/v1/embeddings"] = {
      {"post", post("embeddings", "Of models that have them", "DetokenizeRequest", object_answer, false)}};
  paths["/tokenizer_info"] = {{"get", get("tokenizerInfo", "What begins and ends texts", object_answer)}};
  paths["/tokenize"] = {{"post", post("tokenize", "Text to token ids", "TokenizeRequest", object_answer)}};
  paths["/detokenize"] = {{"post", post("detokenize", "Token ids to text", "DetokenizeRequest", object_answer)}};
  if (service.sessions) {
    paths["/v1/sessions"] = {{"get", get("sessions", "All sessions of this key", object_answer)},
                             {"post", post("createSession", "A new session", "SessionRequest", created, false)}};
    paths["/v1/sessions/{id}"] = with_id({{"get", get("session", "One session", session)},
                                          {"delete", get("deleteSession", "Forget it", object_answer)}});
    paths["/v1/sessions/{id}/messages"] =
        with_id({{"post", post("message", "A message and its answer", "MessageRequest", streamed)}});
    paths["/v1/sessions/{id}/append"] =
        with_id({{"post", post("append", "Text or ids without an answer", "AppendRequest", session)}});
    paths["/v1/sessions/{id}/fork"] =
        with_id({{"post", post("fork", "A second session that goes on from here", "ForkRequest", created, false)}});
    paths["/v1/sessions/{id}/rewind"] =
        with_id({{"post", post("rewind", "Back to a turn or a position", "RewindRequest", session)}});
    paths["/v1/sessions/{id}/save"] = with_id(
        {{"post", {{"operationId", "save"}, {"summary", "Write the snapshot now"}, {"responses", errors(session)}}}});
  }
  if (service.speech) {
    paths["/v1/audio/transcriptions"] = {{"post", audio("transcriptions", "A recording as text")}};
    paths["/v1/audio/translations"] = {{"post", audio("translations", "A recording as English text")}};
  }
  paths["/health"] = {{"get", get("health", "ready or draining", object_answer)}};
  paths["/metrics"] = {{"get",
                        {{"operationId", "metrics"},
                         {"summary", "Counts for Prometheus"},
                         {"responses", errors({{"200",
                                                {{"description", "the text format of Prometheus"},
                                                 {"content", {{"text/plain", {{"schema", of("string")}}}}}}}})}}}};
  paths["/openapi.json"] = {{"get", get("openapi", "This", object_answer)}};
  Json root = {{"openapi", "3.1.0"},
               {"info",
                {{"title", "kvass serve"},
                 {"version", KVASS_VERSION},
                 {"description", "Endpoints of a kvass server. docs/server.md explains them."}}},
               {"paths", std::move(paths)},
               {"components",
                {{"schemas", schemas()}, {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
               {"security", Json::array({{{"key", Json::array()}}, Json::object()})}};
  return dump(root);
}

}  // namespace kvass::serve
