#include "text/jinja/objects.h"

#include <algorithm>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"

namespace kvass::jinja {

Value Macro::call(Interpreter& interpreter, Arguments& arguments) {
  const std::string function = "macro '" + statement.name + "'";
  Budget::work(4 * kStep + 4 * (arguments.positional.size() + arguments.named.size()));
  std::vector<std::pair<std::string, Value>> named = std::move(arguments.named);
  const Restore<std::shared_ptr<Scope>> restore(interpreter.scope_, scope_in(scope));
  const auto take_named = [&](std::string_view name) -> std::optional<Value> {
    Budget::work(4 * named.size());
    for (auto at = named.begin(); at != named.end(); ++at) {
      if (at->first != name) continue;
      Value value = std::move(at->second);
      named.erase(at);
      return value;
    }
    return std::nullopt;
  };
  for (size_t i = 0; i < statement.parameters.size(); ++i) {
    const Parameter& parameter = statement.parameters[i];
    std::optional<Value> value;
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
      if (take_named(parameter.name)) fail(function + " got multiple values for argument '" + parameter.name + "'");
    } else {
      value = take_named(parameter.name);
      if (!value && parameter.fallback) value = interpreter.evaluate(*parameter.fallback);
    }
    interpreter.define(parameter.name,
                       value ? *value : Value::undefined("parameter '" + parameter.name + "' was not provided"));
  }
  const std::optional<Value> caller = take_named("caller");
  if (caller && !statement.takes_caller)
    fail(function + " was invoked with two values for the special caller argument");
  if (statement.takes_caller) {
    interpreter.define("caller", caller ? *caller : Value::undefined("no caller defined"));
  }
  std::vector<Value> rest;
  for (size_t i = statement.parameters.size(); i < arguments.positional.size(); ++i)
    rest.push_back(arguments.positional[i]);
  if (!rest.empty() && !statement.takes_varargs) {
    fail(function + " takes not more than " + std::to_string(statement.parameters.size()) + " argument(s)");
  }
  if (statement.takes_varargs) interpreter.define("varargs", Value::tuple(std::move(rest)));
  if (!named.empty() && !statement.takes_kwargs) {
    fail(function + " takes no keyword argument '" + named.front().first + "'");
  }
  if (statement.takes_kwargs) {
    Dict dict;
    for (auto& [name, value] : named) dict.set(Value(std::string_view(name)), value);
    interpreter.define("kwargs", Value::dict(std::move(dict)));
  }
  return Value(interpreter.capture(statement.body));
}

Value LoopObject::call(Interpreter& interpreter, Arguments& arguments) {
  if (!statement.recursive) fail("the loop must have the 'recursive' marker to be called");
  Bound bound("loop", arguments, {"iterable"}, 1);
  const Restore<std::shared_ptr<Scope>> restore(interpreter.scope_, scope);
  const Restore<Text> output(interpreter.output_, Text());
  interpreter.run_loop(statement, bound[0], depth + 1);
  return Value(std::move(interpreter.output_));
}

std::optional<Value> LoopObject::attribute(std::string_view name) {
  Budget::work(kStep);
  const int64_t index = static_cast<int64_t>(at), count = static_cast<int64_t>(items.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(count - index);
  if (name == "revindex0") return Value(count - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == count);
  if (name == "length") return Value(count);
  if (name == "depth") return Value(int64_t{depth + 1});
  if (name == "depth0") return Value(int64_t{depth});
  if (name == "previtem") return index == 0 ? Value::undefined("there is no previous item") : items[at - 1];
  if (name == "nextitem") return index + 1 == count ? Value::undefined("there is no next item") : items[at + 1];
  if (name == "cycle") {
    return Value(
        std::shared_ptr<Object>(std::make_shared<Function>("cycle", [this](Interpreter&, Arguments& arguments) {
          if (arguments.positional.empty()) fail("no items for cycling given");
          return arguments.positional[at % arguments.positional.size()];
        })));
  }
  if (name == "changed") {
    return Value(
        std::shared_ptr<Object>(std::make_shared<Function>("changed", [this](Interpreter&, Arguments& arguments) {
          const bool same = seen && std::equal(seen->begin(), seen->end(), arguments.positional.begin(),
                                               arguments.positional.end(), equal);
          seen = arguments.positional;
          return Value(!same);
        })));
  }
  return std::nullopt;
}

}  // namespace kvass::jinja
