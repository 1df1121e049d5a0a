#include "text/jinja/builtins.h"

#include <algorithm>
#include <ctime>

#include "text/jinja/budget.h"
#include "text/jinja/interpreter.h"

namespace kvass::jinja {
namespace {

constexpr int64_t kMostRange = 100'000;  // jinja2's sandbox has the same limit

Value range(Interpreter&, Arguments& arguments) {
  Bound bound("range", arguments, {"start", "stop", "step"}, 1);
  const int64_t start = bound.has(1) ? bound.integer(0, 0) : 0;
  const int64_t stop = bound.has(1) ? bound.integer(1, 0) : bound.integer(0, 0);
  const int64_t step = bound.integer(2, 1);
  if (step == 0) fail("range() arg 3 must not be zero");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) >= kMostRange) fail("range too big, at most " + std::to_string(kMostRange));
    Budget::work(2);
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::list(std::move(items));
}

Value make_namespace(Interpreter& interpreter, Arguments& arguments) {
  auto space = std::make_shared<Namespace>();
  for (const Value& positional : arguments.positional) {
    if (!positional.is_dict()) fail("namespace() takes dicts and named values");
    for (const auto& [key, value] : positional.dict().items) space->values.set(key, value);
  }
  for (auto& [name, value] : arguments.named) space->values.set(Value(std::string_view(name)), value);
  interpreter.keep(space);
  return Value(std::shared_ptr<Object>(space));
}

Value make_dict(Interpreter&, Arguments& arguments) {
  Dict dict;
  for (const Value& positional : arguments.positional) {
    if (positional.is_dict()) {
      for (const auto& [key, value] : positional.dict().items) dict.set(key, value);
      continue;
    }
    for (const Value& pair : iterate(positional)) {
      const std::vector<Value> both = iterate(pair);
      if (both.size() != 2) fail("dict() takes pairs of a key and a value");
      dict.set(both[0], both[1]);
    }
  }
  for (auto& [name, value] : arguments.named) dict.set(Value(std::string_view(name)), value);
  return Value::dict(std::move(dict));
}

Value raise_exception(Interpreter&, Arguments& arguments) {
  Bound bound("raise_exception", arguments, {"message"}, 1);
  fail(std::string(bound[0].str().bytes()));
}

Value strftime_now(Interpreter& interpreter, Arguments& arguments) {
  Bound bound("strftime_now", arguments, {"format"}, 1);
  // What strftime has no room for it leaves out, and an empty result may be the right one: the mark tells them apart.
  const std::string format = std::string(bound.text(0).bytes()) + "|";
  if (format.find('\0') != std::string::npos) fail("strftime_now: expected a format without a zero byte");
  Budget::work(kStep * format.size());
  const size_t most = 1024 + 256 * format.size();  // Python's, about
  for (size_t room = std::min(most, 64 + 32 * format.size());; room = std::min(most, 2 * room)) {
    Budget::bytes(room);
    std::string text(room, '\0');
    const size_t length = std::strftime(text.data(), room, format.c_str(), &interpreter.now());
    text.resize(length == 0 ? 0 : length - 1);
    if (length != 0) return Value(Text(std::move(text)));
    if (room == most)
      fail("strftime_now: expected a time of at most " + std::to_string(most) + " bytes, got a longer one");
  }
}

struct Cycler : Object {
  explicit Cycler(std::vector<Value> items) : items(std::move(items)) {}
  std::string_view type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(std::string_view name) override {
    if (name == "current") return items[at];
    if (name != "next" && name != "reset") return std::nullopt;
    const bool reset = name == "reset";
    return Value(
        std::shared_ptr<Object>(std::make_shared<Function>(std::string(name), [this, reset](Interpreter&, Arguments&) {
          const Value item = items[at];
          at = reset ? 0 : (at + 1) % items.size();
          return reset ? Value(None{}) : item;
        })));
  }
  void release() override { items = {}; }
  std::vector<Value> items;
  size_t at = 0;
};

Value make_cycler(Interpreter& interpreter, Arguments& arguments) {
  if (arguments.positional.empty()) fail("cycler() takes at least one item");
  auto cycler = std::make_shared<Cycler>(std::move(arguments.positional));
  interpreter.keep(cycler);  // its methods point to it
  return Value(std::shared_ptr<Object>(cycler));
}

struct Joiner : Object {
  explicit Joiner(Value separator) : separator(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value call(Interpreter&, Arguments&) override { return std::exchange(used, true) ? separator : Value(""); }
  Value separator;
  bool used = false;
};

Value make_joiner(Interpreter&, Arguments& arguments) {
  Bound bound("joiner", arguments, {"sep"});
  return Value(std::shared_ptr<Object>(std::make_shared<Joiner>(Value(bound.text_or(0, ", ")))));
}

struct Global {
  std::string_view name;
  Value (*body)(Interpreter&, Arguments&);
};
constexpr Global kGlobals[] = {
    {"range", range},        {"namespace", make_namespace},        {"dict", make_dict},
    {"cycler", make_cycler}, {"raise_exception", raise_exception}, {"strftime_now", strftime_now},
    {"joiner", make_joiner},
};

}  // namespace

std::optional<Value> find_global(std::string_view name) {
  for (const Global& global : kGlobals) {
    if (global.name != name) continue;
    Budget::work(2 * kStep);
    return Value(std::shared_ptr<Object>(std::make_shared<Function>(std::string(name), global.body)));
  }
  return std::nullopt;
}

Bound::Bound(std::string_view function, Arguments& arguments, std::initializer_list<std::string_view> names,
             size_t required)
    : function_(function), names_(names), values_(names.size()) {
  if (arguments.positional.size() > names_.size()) {
    fail(function_ + "() takes at most " + std::to_string(names_.size()) + " arguments, got " +
         std::to_string(arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    size_t i = 0;
    while (i < names_.size() && names_[i] != name) ++i;
    if (i == names_.size()) fail(function_ + "() got an unexpected keyword argument '" + name + "'");
    if (values_[i]) fail(function_ + "() got multiple values for argument '" + name + "'");
    values_[i] = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) fail(function_ + "() is missing the argument '" + std::string(names_[i]) + "'");
  }
}

int64_t Bound::integer(size_t i, int64_t fallback) const {
  if (!has(i) || values_[i]->is_none()) return fallback;
  if (values_[i]->is_undefined()) fail(values_[i]->why_undefined());
  if (!values_[i]->is_int() && !values_[i]->is_bool()) {
    fail(function_ + "(): '" + std::string(names_[i]) + "' must be an integer, not " +
         std::string(values_[i]->type_name()));
  }
  return values_[i]->integer();
}

const Text& Bound::text(size_t i) const {
  if (values_[i]->is_undefined()) fail(values_[i]->why_undefined());
  if (!values_[i]->is_string()) {
    fail(function_ + "(): '" + std::string(names_[i]) + "' must be a string, not " +
         std::string(values_[i]->type_name()));
  }
  return values_[i]->text();
}

}  // namespace kvass::jinja
