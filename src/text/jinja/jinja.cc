#include "text/jinja/jinja.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "text/jinja/ast.h"
#include "text/jinja/budget.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/utf8.h"

namespace kvass::jinja {
namespace {

using Json = nlohmann::ordered_json;

// A JSON value as Python's json.loads gives it.
Value from_json(const Json& json, bool outside) {
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
      for (const Json& item : json) items.push_back(from_json(item, outside));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items()) dict.set(Value(Text(key, outside)), from_json(item, outside));
      return Value::dict(std::move(dict));
    }
    default:
      return Value(None{});
  }
}

constexpr size_t kMostTemplateBytes = size_t{1} << 20;  // those of models have some 10 KB

// Where the first byte is that is of no character; the size where all are.
size_t invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = utf8_step(text.substr(at));
    if (step.state != Utf8Step::valid) break;
    at += step.length;
  }
  return at;
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
  if (source.size() > kMostTemplateBytes) {
    return bad_input("chat template", "at most " + std::to_string(kMostTemplateBytes) + " bytes",
                     std::to_string(source.size()));
  }
  if (const size_t bad = invalid_utf8(source); bad < source.size()) {
    return bad_input("chat template", "UTF-8", "a byte that is of no character, at " + std::to_string(bad));
  }
  try {
    return Template(std::make_shared<const Tree>(Tree{kvass::jinja::parse(source)}));
  } catch (const Failure& failure) {
    return as_status(failure);
  }
}

Result<Rendered> Template::render(std::string_view variables, const std::vector<std::string_view>& own,
                                  const RenderOptions& options) const {
  // The variables have a level of their own around what was handed in.
  KVASS_ASSIGN_OR_RETURN(const BasicJsonTree<Json> json,
                         parse_json<Json>("template variables", variables, Json::value_t::object, kMostJsonDepth + 1));
  try {
    Dict names;
    for (const auto& [name, value] : json.root().items()) {
      const bool outside = std::find(own.begin(), own.end(), name) == own.end();
      names.set(Value(std::string_view(name)), from_json(value, outside));
    }
    const Budget budget(options.most_steps, options.most_bytes);
    Interpreter interpreter(names, options);
    const Text text = interpreter.run(tree_->body);
    Rendered rendered;
    for (size_t begin = 0; begin < text.size();) {
      size_t end = begin + 1;
      while (end < text.size() && text.outside(end) == text.outside(begin)) ++end;
      Budget::bytes(2 * sizeof(Piece) + end - begin);
      rendered.pieces.push_back({std::string(text.bytes().substr(begin, end - begin)), text.outside(begin)});
      begin = end;
    }
    return rendered;
  } catch (const Failure& failure) {
    return as_status(failure);
  }
}

std::string Rendered::text() const {
  std::string text;
  for (const Piece& piece : pieces) text += piece.text;
  return text;
}

}  // namespace kvass::jinja
