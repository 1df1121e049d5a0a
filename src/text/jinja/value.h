// The values of a template: Python's, as far as chat templates meet them. Strings, lists and dicts never change once
// they are made (the sandbox refuses what would change them), so values are shared by reference; a namespace is the one
// thing that a template assigns to. Positions count characters, integers have 64 bits.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/text.h"

namespace kvass::jinja {

// What ends a rendering. It is thrown inside this folder only; Template (jinja.h) turns it into a Status.
struct Failure {
  std::string message;
  int line = 0;    // 0: not known yet; the evaluator adds where it is
  int column = 0;  // of the line, in bytes from 1
};
[[noreturn]] void fail(std::string message);

class Value;
struct List;
struct Dict;
struct Object;

struct Undefined {
  std::shared_ptr<const std::string> why;  // the error of whoever uses it
};
struct None {};

class Value {
 public:
  Value() : data_(Undefined{}) {}
  Value(None) : data_(None{}) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(Text text);
  Value(std::string_view text) : Value(Text(std::string(text))) {}
  Value(const char* text) : Value(std::string_view(text)) {}
  Value(std::shared_ptr<Object> object) : data_(std::move(object)) {}
  static Value undefined(std::string why) {
    return Value(Undefined{std::make_shared<const std::string>(std::move(why))});
  }
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  // What map, select and the like give: it can be gone through, and little else.
  static Value generator(std::vector<Value> items);
  // What a dict's keys, values or items give.
  static Value view(std::vector<Value> items, std::string_view of);
  static Value dict(Dict dict);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return std::holds_alternative<TextRef>(data_); }
  bool is_list() const { return std::holds_alternative<ListRef>(data_); }  // a tuple is one too
  bool is_generator() const;
  bool is_dict() const { return std::holds_alternative<DictRef>(data_); }
  bool is_object() const { return std::holds_alternative<ObjectRef>(data_); }

  bool boolean() const { return std::get<bool>(data_); }
  int64_t integer() const { return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  double real() const { return is_float() ? std::get<double>(data_) : static_cast<double>(integer()); }
  const Text& text() const { return *std::get<TextRef>(data_); }
  std::string_view string() const { return text().bytes(); }
  const List& list() const { return *std::get<ListRef>(data_); }
  const Dict& dict() const { return *std::get<DictRef>(data_); }
  const std::shared_ptr<Object>& object() const { return std::get<ObjectRef>(data_); }
  const std::string& why_undefined() const;

  bool truth() const;
  std::string_view type_name() const;  // Python's, for messages
  Text str() const;                    // str(x)
  Text repr() const;
  int depth() const;  // of lists and dicts in one another
  // Where the contents of two are the same object (`is`).
  bool same_as(const Value& other) const;

 private:
  static Value make_list(std::vector<Value> items, int form);
  using TextRef = std::shared_ptr<const Text>;
  using ListRef = std::shared_ptr<const List>;
  using DictRef = std::shared_ptr<const Dict>;
  using ObjectRef = std::shared_ptr<Object>;
  explicit Value(Undefined undefined) : data_(std::move(undefined)) {}
  std::variant<Undefined, None, bool, int64_t, double, TextRef, ListRef, DictRef, ObjectRef> data_;
};

struct List {
  // A view of a dict is gone through as a generator is, but has a length and a name.
  enum class Form : uint8_t { list, tuple, generator, keys, values, items };
  std::vector<Value> items;
  Form form = Form::list;
  int depth = 1;

  bool tuple() const { return form == Form::tuple; }
  bool generator() const { return form >= Form::generator; }
  bool view() const { return form > Form::generator; }
  std::string_view type_name() const;  // Python's
};

// In the order of insertion. A later value of a key replaces the earlier one at its place.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(Value key, Value value);

 private:
  std::multimap<size_t, size_t> by_hash_;  // hash of a key -> item; built from 16 items on
};

class Interpreter;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// What is neither data nor a number: functions, macros, namespaces, the `loop` of a for.
struct Object {
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  virtual std::optional<Value> attribute(std::string_view) { return std::nullopt; }
  virtual bool callable() const { return false; }
  virtual Value call(Interpreter&, Arguments&);
  virtual int depth() const { return 0; }  // of the lists and dicts that it holds
  // Lets go of what it holds: at the end of a rendering, for what holds each other in a circle or in a long chain.
  virtual void release() {}
};

struct Namespace : Object {
  Dict values;
  std::string_view type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(std::string_view name) override;
  void release() override { values = Dict(); }
};

// A function by its name; `body` gets checked arguments from Parameters (builtins.h).
struct Function : Object {
  using Body = std::function<Value(Interpreter&, Arguments&)>;
  // `holds`: the depth of what the body holds.
  Function(std::string name, Body body, int holds = 0) : name(std::move(name)), body(std::move(body)), holds(holds) {}
  std::string_view type_name() const override { return "function"; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override { return body(interpreter, arguments); }
  int depth() const override { return holds; }
  std::string name;
  Body body;
  int holds;
};

bool equal(const Value& a, const Value& b);
// a < b as Python orders them; fails where it does not.
bool less(const Value& a, const Value& b);
bool contains(const Value& container, const Value& item);
// What a `for` goes over: the items of a list, the keys of a dict, the characters of a string.
std::vector<Value> iterate(const Value& value);
// Fails where lists, dicts and methods bound to them would be nested too deep.
void check_depth(int depth);
int64_t length(const Value& value);
std::string format_float(double value);  // repr of a Python float

// json.dumps with ensure_ascii false. `indent` < 0: one line. Separators as Python's defaults choose where empty.
struct JsonStyle {
  int64_t indent = -1;
  std::string item_separator;
  std::string key_separator;
  bool sort_keys = false;
  bool ascii = false;
};
Text to_json(const Value& value, const JsonStyle& style);

}  // namespace kvass::jinja
