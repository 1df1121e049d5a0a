#include "text/jinja/jinja.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace kvass::jinja {
namespace {

using Json = nlohmann::ordered_json;

// A JSON value as Python's json.loads gives it.
Value from_json(const Json& json, bool outside, int depth = 0) {
  if (depth > 200) fail("the variables are nested deeper than 200");
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Value(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) fail("a variable is an integer beyond 64 bits");
      return Value(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::string:
      return Value(Text(json.get_ref<const std::string&>(), outside));
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(from_json(item, outside, depth + 1));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items())
        dict.set(Value(Text(key, outside)), from_json(item, outside, depth + 1));
      return Value::dict(std::move(dict));
    }
    default:
      return Value(None{});
  }
}

Status as_status(const Failure& failure) {
  std::string where = "chat template";
  if (failure.line > 0) where += ":" + std::to_string(failure.line) + ":" + std::to_string(failure.column);
  return Status::error(StatusCode::bad_input, where + ": " + failure.message);
}

}  // namespace

struct Template::Tree {
  Body body;
};

Result<Template> Template::parse(std::string_view source) {
  try {
    return Template(std::make_shared<const Tree>(Tree{kvass::jinja::parse(source)}));
  } catch (const Failure& failure) {
    return as_status(failure);
  }
}

Result<Rendered> Template::render(std::string_view variables, const std::vector<std::string_view>& own,
                                  const RenderOptions& options) const {
  const Json json = Json::parse(variables, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return bad_input("template variables", "a JSON object", json.is_discarded() ? "other text" : json.type_name());
  try {
    Dict names;
    for (const auto& [name, value] : json.items()) {
      const bool outside = std::find(own.begin(), own.end(), name) == own.end();
      names.set(Value(std::string_view(name)), from_json(value, outside));
    }
    Interpreter interpreter(names, options);
    const Text text = interpreter.run(tree_->body);
    Rendered rendered;
    for (size_t begin = 0; begin < text.size();) {
      size_t end = begin + 1;
      while (end < text.size() && text.outside(end) == text.outside(begin)) ++end;
      rendered.spans.push_back({std::string(text.bytes().substr(begin, end - begin)), text.outside(begin)});
      begin = end;
    }
    return rendered;
  } catch (const Failure& failure) {
    return as_status(failure);
  }
}

std::string Rendered::text() const {
  std::string text;
  for (const Span& span : spans) text += span.text;
  return text;
}

}  // namespace kvass::jinja
