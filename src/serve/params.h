// The parameters of a request, as its JSON object has them. An endpoint takes the parameters that it knows, one by one;
// finish() then refuses every other one by name, so that nothing that a client asks for is ignored. Errors are those of
// OpenAI's API: a status, a message, the parameter's name.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/sampling.h"
#include "kvass/status.h"
#include "ops/sample/sample.h"
#include "serve/http_exchange.h"

namespace kvass::serve {

using Json = nlohmann::ordered_json;

struct ApiError {
  int status = 400;
  std::string message;
  std::string param = {};  // empty: none
  std::string code = {};   // "invalid_value", "model_not_found", …; empty: none
  Fields headers = {};
};

HttpReply error_reply(const ApiError& error);
Json error_json(const ApiError& error);
ApiError api_error(const Status& status);  // 400, 429, 500, 503, 507 by its code
// Messages name fields of the program's options. How they are shown is set once, before there are threads.
void show_messages_with(std::string (*words)(std::string_view message));
std::string in_words(std::string_view message);

// Text as JSON with every byte that is no UTF-8 as U+FFFD.
std::string dump(const Json& json);

class Params {
 public:
  // The object of a body. Throws ApiError, as everything here does.
  explicit Params(const std::string& body);
  Params(Json object, std::string where);

  bool has(const char* name) const;  // and is not null
  // The value, which is known from then on; null: it is not there.
  const Json* take(const char* name);
  void harmless(std::initializer_list<const char*> names);  // that change no result
  // Refuses the first parameter that nobody has taken.
  void finish() const;

  std::optional<bool> boolean(const char* name);
  std::optional<int64_t> integer(const char* name, int64_t least, int64_t most);
  std::optional<double> number(const char* name, double least, double most);
  std::optional<std::string> text(const char* name);              // UTF-8
  std::vector<std::string> texts(const char* name, size_t most);  // one or a list; none may be empty
  std::optional<Params> object(const char* name);

  [[noreturn]] void refuse(const char* name, std::string_view expected, std::string_view got) const;
  std::string full(std::string_view name) const {
    return where_.empty() ? std::string(name) : where_ + "." + std::string(name);
  }

 private:
  Json object_;
  std::string where_;  // empty: the body
  std::set<std::string, std::less<>> taken_;
};

// What every endpoint that generates takes: temperature, top_p, top_k, min_p, repeat_penalty (repetition_penalty),
// repeat_last_n, seed, logit_bias. Without a seed it is random.
SampleOptions take_sampling(Params& params, int64_t vocabulary, const SampleOptions& defaults);
OutputPenalties take_penalties(Params& params);  // presence_penalty, frequency_penalty

// A list of token ids below `vocabulary`, the value of `name`.
std::vector<int32_t> take_ids(const Params& params, const char* name, const Json& list, int64_t vocabulary);

std::string shown(const Json& value);                     // for messages, at most 80 bytes
std::string in_quotes(const std::string& from_a_client);  // the same

}  // namespace kvass::serve
