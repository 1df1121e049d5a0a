// What a template can use without defining it: jinja2's filters, tests and global functions, the methods of Python's
// strings, lists and dicts, and what transformers adds for chat templates (raise_exception, strftime_now, tojson in its
// form, the default filters' names). Tables of functions; no state.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace kvass::jinja {

using Filter = Value (*)(Interpreter&, const Value& input, Arguments&);
using Test = bool (*)(Interpreter&, const Value& input, Arguments&);

// Null: there is none of that name.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);

// A global function or value by its name.
std::optional<Value> find_global(std::string_view name);

// The method `name` of a string, a list or a dict, bound to `self`; nothing where it has none. A method that would
// change the object is undefined with the sandbox's refusal as its reason.
std::optional<Value> find_method(const Value& self, std::string_view name);

// str.isupper, str.islower.
bool has_case(const Value& value, bool upper);

// Arguments matched to parameters by position and by name. Fails, naming `function`, where there are too many, one is
// not known, comes twice, or one of the first `required` is missing.
class Bound {
 public:
  Bound(std::string_view function, Arguments& arguments, std::initializer_list<std::string_view> names,
        size_t required = 0);
  bool has(size_t i) const { return values_[i].has_value(); }
  const Value& operator[](size_t i) const { return *values_[i]; }
  int64_t integer(size_t i, int64_t fallback) const;
  bool boolean(size_t i, bool fallback) const { return has(i) ? values_[i]->truth() : fallback; }
  const Text& text(size_t i) const;  // a string, or it fails
  Text text_or(size_t i, std::string_view fallback) const { return has(i) ? text(i) : Text(std::string(fallback)); }

 private:
  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace kvass::jinja
