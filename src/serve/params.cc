#include "serve/params.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "app/text.h"
#include "base/json_text.h"

namespace kvass::serve {

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string shown(const Json& value) {
  std::string text = dump(value);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

std::string in_quotes(const std::string& from_a_client) { return "'" + valid_utf8(from_a_client.substr(0, 80)) + "'"; }

namespace {

std::string as_it_is(std::string_view message) { return std::string(message); }
std::string (*g_words)(std::string_view message) = as_it_is;

}  // namespace

void show_messages_with(std::string (*words)(std::string_view message)) { g_words = words; }
std::string in_words(std::string_view message) { return g_words(message); }

Json error_json(const ApiError& error) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  const char* const type = error.status == 401   ? "authentication_error"
                           : error.status == 429 ? "rate_limit_error"
                           : error.status >= 500 ? "server_error"
                                                 : "invalid_request_error";
  return {{"error",
           {{"message", in_words(error.message)},
            {"type", type},
            {"param", or_null(error.param)},
            {"code", or_null(error.code)}}}};
}

HttpReply error_reply(const ApiError& error) {
  return {error.status, "application/json", dump(error_json(error)), error.headers};
}

ApiError api_error(const Status& status) {
  const std::string message = valid_utf8(status.message());
  switch (status.code()) {
    case StatusCode::busy:
      return {429, message, "", "busy"};
    case StatusCode::cache_full:
      return {400, message, "", "context_length_exceeded"};
    case StatusCode::bad_input:
    case StatusCode::unsupported:
      return {400, message, "", "invalid_value"};
    case StatusCode::out_of_memory:
      return {507, message, "", "out_of_memory"};
    case StatusCode::cancelled:
      return {503, message, "", "cancelled"};
    default:
      return {500, message, "", "internal"};
  }
}

namespace {

// Sees the steps of the parser: the first name that an object has twice. JSON leaves open which of the two counts.
struct TwiceNamed {
  std::vector<std::set<std::string, std::less<>>> open;  // the names of the objects that the parser is in
  std::string name;
  bool operator()(int, Json::parse_event_t event, const Json& value) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event != Json::parse_event_t::key || !name.empty()) return true;
    const std::string& key = value.get_ref<const std::string&>();
    if (!open.back().insert(key).second) name = key.empty() ? "\"\"" : key;
    return true;
  }
};

}  // namespace

Params::Params(const std::string& body) {
  const Result<BasicJsonTree<Json>> parsed = parse_json<Json>("body", body, Json::value_t::object);
  if (!parsed.ok()) throw ApiError{400, parsed.status().message(), "", "invalid_json"};
  TwiceNamed twice;
  (void)Json::parse(body, std::ref(twice), /*allow_exceptions=*/false);
  if (!twice.name.empty()) {
    const std::string name = valid_utf8(twice.name).substr(0, 80);
    throw ApiError{400, expected_message(name, "one value in an object", "the name twice"), name, "invalid_json"};
  }
  object_ = parsed->root();
}

Params::Params(Json object, std::string where) : object_(std::move(object)), where_(std::move(where)) {}

bool Params::has(const char* name) const {
  const auto found = object_.find(name);
  return found != object_.end() && !found->is_null();
}

const Json* Params::take(const char* name) {
  taken_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void Params::harmless(std::initializer_list<const char*> names) {
  for (const char* name : names) taken_.insert(name);
}

void Params::finish() const {
  for (const auto& [name, value] : object_.items()) {
    if (taken_.contains(name)) continue;
    throw ApiError{400,
                   fmt::format("{}: expected a parameter that this endpoint has, got one that it does not know; "
                               "nothing that is asked for is passed over",
                               valid_utf8(full(name)).substr(0, 200)),
                   valid_utf8(full(name)).substr(0, 200), "unsupported_parameter"};
  }
}

void Params::refuse(const char* name, std::string_view expected, std::string_view got) const {
  throw ApiError{400, expected_message(full(name), expected, got), full(name), "invalid_value"};
}

std::optional<bool> Params::boolean(const char* name) {
  const Json* value = take(name);
  if (value == nullptr) return {};
  if (!value->is_boolean()) refuse(name, "true or false", shown(*value));
  return value->get<bool>();
}

std::optional<int64_t> Params::integer(const char* name, int64_t least, int64_t most) {
  const Json* value = take(name);
  if (value == nullptr) return {};
  // A number like 16.0 is an integer to JSON Schema.
  if (value->is_number_float() && std::floor(value->get<double>()) == value->get<double>() &&
      std::abs(value->get<double>()) < 0x1p53) {
    const auto number = static_cast<int64_t>(value->get<double>());
    if (number >= least && number <= most) return number;
  }
  const bool whole = value->is_number_integer() &&
                     !(value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  if (!whole || value->get<int64_t>() < least || value->get<int64_t>() > most) {
    refuse(name,
           most == INT64_MAX ? fmt::format("an integer of at least {}", least)
                             : fmt::format("an integer from {} to {}", least, most),
           shown(*value));
  }
  return value->get<int64_t>();
}

std::optional<double> Params::number(const char* name, double least, double most) {
  const Json* value = take(name);
  if (value == nullptr) return {};
  if (!value->is_number() || !(value->get<double>() >= least && value->get<double>() <= most)) {
    refuse(name, fmt::format("a number from {} to {}", least, most), shown(*value));
  }
  return value->get<double>();
}

std::optional<std::string> Params::text(const char* name) {
  const Json* value = take(name);
  if (value == nullptr) return {};
  if (!value->is_string()) refuse(name, "a string", shown(*value));
  return value->get<std::string>();
}

std::vector<std::string> Params::texts(const char* name, size_t most) {
  const Json* value = take(name);
  std::vector<std::string> all;
  if (value == nullptr) return all;
  const auto add = [&](const Json& one) {
    if (!one.is_string() || one.get_ref<const std::string&>().empty()) {
      refuse(name, "a string that is not empty, or a list of such", shown(one));
    }
    all.push_back(one.get<std::string>());
  };
  if (value->is_array()) {
    if (value->size() > most) refuse(name, fmt::format("at most {}", most), std::to_string(value->size()));
    for (const Json& one : *value) add(one);
  } else {
    add(*value);
  }
  return all;
}

std::optional<Params> Params::object(const char* name) {
  const Json* value = take(name);
  if (value == nullptr) return {};
  if (!value->is_object()) refuse(name, "an object", shown(*value));
  return Params(*value, full(name));
}

SampleOptions take_sampling(Params& params, int64_t vocabulary, const SampleOptions& defaults) {
  constexpr double kMost = std::numeric_limits<float>::max();
  SampleOptions options = defaults;
  const auto set = [&](auto& field, const auto& value) {
    if (value) field = static_cast<std::remove_reference_t<decltype(field)>>(*value);
  };
  set(options.temperature, params.number("temperature", 0.0, kMost));
  set(options.top_p, params.number("top_p", 0.0, 1.0));
  set(options.min_p, params.number("min_p", 0.0, 1.0));
  set(options.top_k, params.integer("top_k", -1, INT32_MAX));
  if (options.top_k < 0) options.top_k = 0;  // other servers' word for all
  if (options.top_p == 0.0f) params.refuse("top_p", "a number above 0, at most 1", "0");
  if (params.has("repetition_penalty") && params.has("repeat_penalty")) {
    params.refuse("repetition_penalty", "one name for it", "repeat_penalty too");
  }
  set(options.repeat_penalty, params.number("repetition_penalty", 1e-6, 1e6));
  set(options.repeat_penalty, params.number("repeat_penalty", 1e-6, 1e6));
  set(options.repeat_last_n, params.integer("repeat_last_n", 0, 1 << 20));
  if (const Json* seed = params.take("seed")) {
    if (!seed->is_number_integer()) params.refuse("seed", "an integer", shown(*seed));
    options.seed = seed->is_number_unsigned() ? seed->get<uint64_t>() : static_cast<uint64_t>(seed->get<int64_t>());
  } else if (defaults.seed == 0) {
    std::random_device random;
    options.seed = random() >> 1;
  }
  if (const Json* bias = params.take("logit_bias")) {
    if (!bias->is_object()) params.refuse("logit_bias", "an object of token ids and numbers", shown(*bias));
    options.logit_bias.clear();
    for (const auto& [name, value] : bias->items()) {
      int64_t id = -1;
      const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), id);
      if (wrong != std::errc() || end != name.data() + name.size() || id < 0 || id >= vocabulary) {
        params.refuse("logit_bias", fmt::format("token ids from 0 to {}", vocabulary - 1), in_quotes(name));
      }
      if (!value.is_number() || std::abs(value.get<double>()) > 1e30) {
        params.refuse("logit_bias", "numbers from -1e30 to 1e30", shown(value));
      }
      // As OpenAI has it, -100 is a ban.
      const double number = value.get<double>();
      options.logit_bias.push_back({static_cast<int32_t>(id), number <= -100.0 ? -std::numeric_limits<float>::infinity()
                                                                               : static_cast<float>(number)});
    }
  }
  if (const Status status = validate(options); !status.ok()) throw ApiError{400, status.message(), "", "invalid_value"};
  return options;
}

std::vector<int32_t> take_ids(const Params& params, const char* name, const Json& list, int64_t vocabulary) {
  if (!list.is_array()) params.refuse(name, "a list of token ids", shown(list));
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= vocabulary) {
      params.refuse(name, fmt::format("token ids from 0 to {}", vocabulary - 1), shown(id));
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

OutputPenalties take_penalties(Params& params) {
  OutputPenalties penalties;
  penalties.presence = static_cast<float>(params.number("presence_penalty", -2.0, 2.0).value_or(0.0));
  penalties.frequency = static_cast<float>(params.number("frequency_penalty", -2.0, 2.0).value_or(0.0));
  return penalties;
}

}  // namespace kvass::serve
