// The expressions of a template: the part of Interpreter that computes values.
#include <algorithm>
#include <cmath>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"

namespace kvass::jinja {
namespace {

int64_t floor_divide(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0); }

[[noreturn]] void unsupported_operands(std::string_view op, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) fail(value->why_undefined());
  }
  fail("unsupported operand type(s) for " + std::string(op) + ": '" + std::string(a.type_name()) + "' and '" +
       std::string(b.type_name()) + "'");
}

// A key in a message, which the key of a template may be longer than.
std::string shown(const Value& key) {
  if (key.is_string() && key.text().size() > 100) return "of that name";
  return key.is_string() || key.is_number() ? std::string(key.repr().bytes())
                                            : "of that " + std::string(key.type_name());
}

Value integer_arithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    if (b < 0) return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    result = 1;
    for (int64_t i = 0; i < b && !overflow && !(a == 1 || a == 0 || a == -1); ++i)
      overflow = __builtin_mul_overflow(result, a, &result);
    if (a == 0) result = b == 0 ? 1 : 0;
    if (a == -1) result = b % 2 == 0 ? 1 : -1;
  } else {
    if (b == 0) fail("division by zero");
    if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) {  // the one quotient that overflows
      overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
      if (op == "%") return Value(int64_t{0});
    } else {
      const int64_t quotient = floor_divide(a, b);
      result = op == "//" ? quotient : a - quotient * b;
    }
  }
  if (overflow) fail("an integer is beyond 64 bits");
  return Value(result);
}

Value float_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return Value(std::pow(a, b));
  if (b == 0.0) fail("division by zero");
  if (op == "/") return Value(a / b);
  if (op == "//") return Value(std::floor(a / b));
  const double rest = std::fmod(a, b);
  return Value(rest != 0.0 && (rest < 0.0) != (b < 0.0) ? rest + b : rest);
}

}  // namespace

Value Interpreter::evaluate(const Expr& expr) {
  const Nesting nesting(*this);
  Budget::work(kStep);
  try {
    return evaluate_inner(expr);
  } catch (Failure& failure) {
    if (failure.line == 0) {
      failure.line = expr.line;
      failure.column = expr.column;
    }
    throw;
  }
}

Value Interpreter::evaluate_inner(const Expr& expr) {
  const auto part = [&](size_t i) { return evaluate(*expr.parts[i]); };
  switch (expr.kind) {
    case Expr::Kind::constant:
      return expr.value;
    case Expr::Kind::name:
      return name(expr);
    case Expr::Kind::list:
    case Expr::Kind::tuple: {
      std::vector<Value> items;
      for (const ExprRef& item : expr.parts) items.push_back(evaluate(*item));
      return expr.kind == Expr::Kind::list ? Value::list(std::move(items)) : Value::tuple(std::move(items));
    }
    case Expr::Kind::dict: {
      Dict dict;
      for (size_t i = 0; i + 1 < expr.parts.size(); i += 2) dict.set(part(i), part(i + 1));
      return Value::dict(std::move(dict));
    }
    case Expr::Kind::attribute:
      return attribute(part(0), expr.text);
    case Expr::Kind::item:
      return item(part(0), part(1));
    case Expr::Kind::slice:
      return slice(expr);
    case Expr::Kind::call: {
      const Value function = part(0);
      Arguments values = arguments(expr, 1);
      return call(function, values);
    }
    case Expr::Kind::filter: {
      const Value input = expr.parts[0] ? part(0) : scope_->names[std::string()];
      Arguments values = arguments(expr, 1);
      return filter(expr.text, input, values);
    }
    case Expr::Kind::test: {
      const Value input = part(0);
      Arguments values = arguments(expr, 1);
      return Value(test(expr.text, input, values));
    }
    case Expr::Kind::condition:
      if (part(1).truth()) return part(0);
      if (expr.parts[2]) return part(2);
      return Value::undefined("the inline if-expression evaluated to false and no else section was defined");
    case Expr::Kind::both: {
      const Value left = part(0);
      return left.truth() ? part(1) : left;
    }
    case Expr::Kind::either: {
      const Value left = part(0);
      return left.truth() ? left : part(1);
    }
    case Expr::Kind::negation:
      return Value(!part(0).truth());
    case Expr::Kind::compare:
      return compare(expr);
    case Expr::Kind::arithmetic: {
      const Value left = part(0);
      return arithmetic(expr.text, left, part(1));
    }
    case Expr::Kind::sign: {
      const Value value = part(0);
      if (!value.is_number()) unsupported_operands("unary " + expr.text, value, value);
      if (expr.text == "+") return value.is_float() ? value : Value(value.integer());
      if (value.is_float()) return Value(-value.real());
      return integer_arithmetic("-", 0, value.integer());
    }
    case Expr::Kind::concat: {
      Text text;
      for (const ExprRef& item : expr.parts) text.append(evaluate(*item).str());
      return Value(std::move(text));
    }
    case Expr::Kind::spread:
      fail("'*' outside of a call");
  }
  return Value();
}

Value Interpreter::name(const Expr& expr) {
  for (const Scope* scope = scope_.get(); scope; scope = scope->outer.get()) {
    Budget::work(4 + expr.text.size() / 8);
    const auto at = scope->names.find(expr.text);
    if (at != scope->names.end()) return at->second;
  }
  if (std::optional<Value> global = find_global(expr.text)) return *global;
  return Value::undefined("'" + expr.text + "' is undefined");
}

Arguments Interpreter::arguments(const Expr& expr, size_t first) {
  Arguments values;
  for (size_t i = first; i < expr.parts.size(); ++i) {
    const Expr& part = *expr.parts[i];
    if (part.kind != Expr::Kind::spread) {
      values.positional.push_back(evaluate(part));
      continue;
    }
    for (Value& value : iterate(evaluate(*part.parts[0]))) values.positional.push_back(std::move(value));
  }
  for (const auto& [name, part] : expr.named) {
    Value value = evaluate(*part);
    if (name != "**") {
      values.named.emplace_back(name, std::move(value));
      continue;
    }
    if (!value.is_dict()) fail("argument after ** must be a mapping, not " + std::string(value.type_name()));
    for (const auto& [key, item] : value.dict().items) {
      Budget::work(kStep);
      Budget::bytes(sizeof(std::string) + sizeof(Value));
      values.named.emplace_back(key.str().bytes(), item);
    }
  }
  return values;
}

Value Interpreter::call(const Value& function, Arguments& arguments) {
  if (function.is_undefined()) fail(function.why_undefined());
  if (!function.is_object()) fail("'" + std::string(function.type_name()) + "' object is not callable");
  Budget::work(kStep);
  const std::shared_ptr<Object> object = function.object();
  return object->call(*this, arguments);
}

Value Interpreter::filter(std::string_view name, const Value& input, Arguments& arguments) {
  const Filter body = find_filter(name);
  if (!body) fail("no filter named '" + std::string(name) + "'");
  Budget::work(2 * kStep);
  return body(*this, input, arguments);
}

bool Interpreter::test(std::string_view name, const Value& input, Arguments& arguments) {
  const Test body = find_test(name);
  if (!body) fail("no test named '" + std::string(name) + "'");
  return body(*this, input, arguments);
}

Value Interpreter::attribute(const Value& value, std::string_view name) {
  Budget::work(kStep + name.size() / 8);
  if (value.is_undefined()) fail(value.why_undefined());
  if (std::optional<Value> method = find_method(value, name)) return *method;
  if (value.is_object()) {
    if (std::optional<Value> found = value.object()->attribute(name)) return *found;
  } else if (value.is_dict()) {
    if (const Value* found = value.dict().find(name)) return *found;
  }
  if (name.starts_with("__")) {
    return Value::undefined("access to attribute '" + std::string(name) + "' of '" + std::string(value.type_name()) +
                            "' object is unsafe");
  }
  return Value::undefined("'" + std::string(value.type_name()) + " object' has no attribute '" + std::string(name) +
                          "'");
}

Value Interpreter::item(const Value& value, const Value& key) {
  if (value.is_undefined()) fail(value.why_undefined());
  if (value.is_dict()) {
    const bool hashable = !key.is_dict() && !(key.is_list() && !key.list().tuple());
    if (const Value* found = hashable ? value.dict().find(key) : nullptr) return *found;
  } else if (((value.is_list() && !value.is_generator()) || value.is_string()) && (key.is_int() || key.is_bool())) {
    const int64_t count = length(value);
    const int64_t index = key.integer() < 0 ? key.integer() + count : key.integer();
    if (index >= 0 && index < count) {
      if (value.is_list()) return value.list().items[static_cast<size_t>(index)];
      const Text& text = value.text();
      const size_t begin = text.byte_of(static_cast<size_t>(index));
      size_t end = begin;
      decode_character(text.bytes(), end);
      return Value(text.slice(begin, end));
    }
  }
  if (key.is_string() && !value.is_undefined()) {
    if (std::optional<Value> method = find_method(value, key.string())) return *method;
    if (value.is_object()) {
      if (std::optional<Value> found = value.object()->attribute(key.string())) return *found;
    }
  }
  return Value::undefined("'" + std::string(value.type_name()) + " object' has no element " + shown(key));
}

// As Python's slice.indices.
Value Interpreter::slice(const Expr& expr) {
  const Value value = evaluate(*expr.parts[0]);
  std::optional<int64_t> bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (!expr.parts[i + 1]) continue;
    const Value bound = evaluate(*expr.parts[i + 1]);
    if (bound.is_none()) continue;
    if (!bound.is_int() && !bound.is_bool()) return Value::undefined("slice indices must be integers or None");
    bounds[i] = bound.integer();
  }
  if (value.is_undefined()) fail(value.why_undefined());
  if ((!value.is_list() || value.is_generator()) && !value.is_string()) {
    return Value::undefined("'" + std::string(value.type_name()) + "' object has no slices");
  }
  const int64_t step = bounds[2].value_or(1), count = length(value);
  if (step == 0) fail("slice step cannot be zero");
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? count : count - 1;
  const auto place = [&](std::optional<int64_t> bound, int64_t fallback) {
    if (!bound) return fallback;
    return std::clamp(*bound < 0 ? *bound + count : *bound, low, high);
  };
  const int64_t begin = place(bounds[0], step > 0 ? low : high), end = place(bounds[1], step > 0 ? high : low);
  if (value.is_string() && step == 1) {
    const Text& text = value.text();
    const size_t first = text.byte_of(static_cast<size_t>(std::min(begin, end)));
    return Value(text.slice(first, text.byte_of(static_cast<size_t>(end))));
  }
  std::vector<size_t> picked;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    picked.push_back(static_cast<size_t>(i));
    Budget::bytes(2 * sizeof(size_t));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  if (value.is_string()) {
    const std::vector<size_t> begins = value.text().offsets();
    Text text;
    for (size_t i : picked) text.append(value.text(), begins[i], begins[i + 1]);
    return Value(std::move(text));
  }
  Budget::bytes(picked.size(), sizeof(Value));
  std::vector<Value> items;
  items.reserve(picked.size());
  for (size_t i : picked) items.push_back(value.list().items[i]);
  return value.list().tuple() ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

Value Interpreter::compare(const Expr& expr) {
  Value left = evaluate(*expr.parts[0]);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    const Value right = evaluate(*expr.parts[i + 1]);
    const std::string& op = expr.ops[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = equal(left, right) == (op == "==");
    } else if (op == "in" || op == "not in") {
      holds = contains(right, left) == (op == "in");
    } else {
      const bool swapped = op == ">" || op == "<=";
      const bool is_less = swapped ? less(right, left) : less(left, right);
      const bool negated = op == "<=" || op == ">=";
      holds = is_less != negated;
    }
    if (!holds) return Value(false);
    left = right;
  }
  return Value(true);
}

Value Interpreter::arithmetic(std::string_view op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return float_arithmetic(op, a.real(), b.real());
    return integer_arithmetic(op, a.integer(), b.integer());
  }
  if (op == "%" && a.is_string()) {
    Arguments values;
    if (b.is_list() && b.list().tuple()) {
      values.positional = b.list().items;
    } else {
      values.positional.push_back(b);
    }
    return filter("format", a, values);
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    Text text = a.text();
    text.append(b.text());
    return Value(std::move(text));
  }
  if (op == "+" && a.is_list() && b.is_list() && a.list().form == b.list().form && !a.is_generator()) {
    std::vector<Value> items = iterate(a);
    Budget::bytes(items.size() + b.list().items.size(), sizeof(Value));
    items.insert(items.end(), b.list().items.begin(), b.list().items.end());
    return a.list().tuple() ? Value::tuple(std::move(items)) : Value::list(std::move(items));
  }
  if (op == "*") {
    const Value& sequence = a.is_string() || a.is_list() ? a : b;
    const Value& count = &sequence == &a ? b : a;
    const bool integer = count.is_int() || count.is_bool();
    if (integer && (sequence.is_string() || (sequence.is_list() && !sequence.is_generator()))) {
      const size_t times = static_cast<size_t>(std::max<int64_t>(count.integer(), 0));
      if (sequence.is_string()) {
        Text text;
        text.append_times(sequence.text(), times);
        return Value(std::move(text));
      }
      const std::vector<Value>& once = sequence.list().items;
      Budget::check(times, once.size() * sizeof(Value));
      Budget::work(2 * times * once.size());
      std::vector<Value> items;
      if (!once.empty()) items.reserve(times * once.size());
      for (size_t i = 0; i < times && !once.empty(); ++i) items.insert(items.end(), once.begin(), once.end());
      return sequence.list().tuple() ? Value::tuple(std::move(items)) : Value::list(std::move(items));
    }
  }
  unsupported_operands(op, a, b);
}

}  // namespace kvass::jinja
