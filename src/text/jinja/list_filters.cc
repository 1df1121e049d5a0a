// jinja2's filters of lists and dicts.
#include <algorithm>
#include <cstdlib>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/filter_row.h"
#include "text/jinja/interpreter.h"

namespace kvass::jinja {
namespace {

// ---- by attribute ----

// value.a.b or value[0], as the `attribute` argument of several filters says.
class Path {
 public:
  Path(Interpreter& interpreter, const Value& attribute, Value fallback = Value())
      : interpreter_(interpreter), fallback_(std::move(fallback)) {
    if (attribute.is_none() || attribute.is_undefined()) return;
    if (attribute.is_int()) {
      keys_.push_back(attribute);
      return;
    }
    for (const Text& part : attribute.str().split(".", -1)) {
      const bool number = !part.empty() && std::all_of(part.bytes().begin(), part.bytes().end(),
                                                       [](char c) { return c >= '0' && c <= '9'; });
      if (number && part.size() < 10) {
        keys_.emplace_back(static_cast<int64_t>(std::stol(std::string(part.bytes()))));
      } else {
        keys_.emplace_back(part);
      }
    }
  }
  Value of(const Value& value) const {
    Value found = value;
    for (const Value& key : keys_) {
      found = interpreter_.item(found, key);
      if (found.is_undefined() && !fallback_.is_undefined()) return fallback_;
    }
    return found;
  }

 private:
  Interpreter& interpreter_;
  std::vector<Value> keys_;
  Value fallback_;
};

Value folded(const Value& value, bool case_sensitive) {
  return case_sensitive || !value.is_string() ? value : Value(value.text().with_case(Text::Case::lower));
}

// The items in a stable order by `key`.
template <class Key>
std::vector<Value> sorted(const std::vector<Value>& items, bool reverse, Key&& key) {
  Budget::bytes(items.size(), 2 * sizeof(std::pair<Value, size_t>) + sizeof(Value));  // with what the merge needs
  std::vector<std::pair<Value, size_t>> keys;
  for (size_t i = 0; i < items.size(); ++i) keys.emplace_back(key(items[i]), i);
  // Merging checks every order that it uses, so a comparison that fails ends it.
  std::stable_sort(keys.begin(), keys.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  std::vector<Value> result;
  for (const auto& [value, i] : keys) result.push_back(items[i]);
  return result;
}

Value sort(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  std::vector<Path> paths;
  if (bound.has(2) && bound[2].is_string()) {
    for (const Text& part : bound.text(2).split(",", -1)) paths.emplace_back(interpreter, Value(part));
  } else {
    paths.emplace_back(interpreter, bound.has(2) ? bound[2] : Value(None{}));
  }
  const bool sensitive = bound.boolean(1, false);
  return Value::list(sorted(iterate(input), bound.boolean(0, false), [&](const Value& item) {
    std::vector<Value> keys;
    for (const Path& path : paths) keys.push_back(folded(path.of(item), sensitive));
    return keys.size() == 1 ? keys[0] : Value::tuple(std::move(keys));
  }));
}

Value dictsort(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  if (input.is_undefined()) fail(input.why_undefined());
  if (!input.is_dict()) fail("dictsort takes a mapping, not " + std::string(input.type_name()));
  const std::string by(bound.text_or(1, "key").bytes());
  if (by != "key" && by != "value") fail("you can only sort by either \"key\" or \"value\"");
  std::vector<Value> items;
  for (const auto& [key, value] : input.dict().items) items.push_back(Value::tuple({key, value}));
  const bool sensitive = bound.boolean(0, false);
  return Value::list(sorted(items, bound.boolean(2, false), [&](const Value& item) {
    return folded(item.list().items[by == "key" ? 0 : 1], sensitive);
  }));
}

Value unique(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("unique", arguments, {"case_sensitive", "attribute"});
  const Path path(interpreter, bound.has(1) ? bound[1] : Value(None{}));
  Dict seen;
  std::vector<Value> items;
  for (const Value& item : iterate(input)) {
    const Value key = folded(path.of(item), bound.boolean(0, false));
    if (seen.find(key)) continue;
    seen.set(key, Value(true));
    items.push_back(item);
  }
  return Value::generator(std::move(items));
}

Value groupby(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const Path path(interpreter, bound[0], bound.has(1) ? bound[1] : Value());
  const bool sensitive = bound.boolean(2, false);
  const std::vector<Value> items =
      sorted(iterate(input), false, [&](const Value& item) { return folded(path.of(item), sensitive); });
  std::vector<Value> groups;
  for (size_t i = 0; i < items.size();) {
    const Value key = folded(path.of(items[i]), sensitive);
    std::vector<Value> group;
    const size_t begin = i;
    for (; i < items.size() && equal(folded(path.of(items[i]), sensitive), key); ++i) group.push_back(items[i]);
    groups.push_back(Value::tuple({path.of(items[begin]), Value::list(std::move(group))}));
  }
  return Value::list(std::move(groups));
}

Value extreme(Interpreter& interpreter, const Value& input, Arguments& arguments, bool largest) {
  Bound bound(largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const Path path(interpreter, bound.has(1) ? bound[1] : Value(None{}));
  const std::vector<Value> items = iterate(input);
  if (items.empty()) return Value::undefined("no aggregated item, sequence was empty");
  const auto key = [&](const Value& item) { return folded(path.of(item), bound.boolean(0, false)); };
  const Value* best = &items[0];
  for (const Value& item : items) {
    if (largest ? less(key(*best), key(item)) : less(key(item), key(*best))) best = &item;
  }
  return *best;
}

Value sum(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("sum", arguments, {"attribute", "start"});
  const Path path(interpreter, bound.has(0) ? bound[0] : Value(None{}));
  Value total = bound.has(1) ? bound[1] : Value(int64_t{0});
  for (const Value& item : iterate(input)) total = interpreter.arithmetic("+", total, path.of(item));
  return total;
}

Value join(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("join", arguments, {"d", "attribute"});
  const Text separator = bound.has(0) ? bound[0].str() : Text();
  const Path path(interpreter, bound.has(1) ? bound[1] : Value(None{}));
  Text text;
  bool first = true;
  for (const Value& item : iterate(input)) {
    if (!first) text.append(separator);
    first = false;
    text.append(path.of(item).str());
  }
  return Value(std::move(text));
}

// ---- choosing ----

// The arguments from one on, for a filter or a test that each item gets.
Arguments rest_of(const Arguments& arguments, size_t first) {
  const size_t count = arguments.positional.size() - first + arguments.named.size();
  Budget::work(4 * count);
  Budget::bytes(count, sizeof(Value));
  return {{arguments.positional.begin() + static_cast<std::ptrdiff_t>(first), arguments.positional.end()},
          arguments.named};
}

Value map(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  std::vector<Value> items;
  if (arguments.positional.empty()) {
    Bound bound("map", arguments, {"attribute", "default"}, 1);
    const Path path(interpreter, bound[0], bound.has(1) ? bound[1] : Value());
    for (const Value& item : iterate(input)) items.push_back(path.of(item));
    return Value::generator(std::move(items));
  }
  if (!arguments.positional[0].is_string()) fail("map takes the name of a filter or an attribute");
  const std::string name(arguments.positional[0].string());
  for (const Value& item : iterate(input)) {
    Arguments rest = rest_of(arguments, 1);
    items.push_back(interpreter.filter(name, item, rest));
  }
  return Value::generator(std::move(items));
}

Value choose(Interpreter& interpreter, const Value& input, Arguments& arguments, bool wanted, bool by_attribute) {
  size_t next = 0;
  std::optional<Path> path;
  if (by_attribute) {
    if (arguments.positional.empty()) fail("missing parameter for attribute name");
    path.emplace(interpreter, arguments.positional[next++]);
  }
  std::string test;
  if (next < arguments.positional.size()) test = arguments.positional[next++].str().bytes();
  std::vector<Value> items;
  for (const Value& item : iterate(input)) {
    const Value value = path ? path->of(item) : item;
    Arguments rest = rest_of(arguments, next);
    const bool fits = test.empty() ? value.truth() : interpreter.test(test, value, rest);
    if (fits == wanted) items.push_back(item);
  }
  return Value::generator(std::move(items));
}

// ---- pieces of a list ----

Value edge(const Value& input, bool first) {
  const std::vector<Value> items = iterate(input);
  if (items.empty())
    return Value::undefined(first ? "no first item, sequence was empty" : "no last item, sequence was empty");
  return first ? items.front() : items.back();
}

Value reverse(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("reverse", arguments, {});
  if (!input.is_string()) {
    std::vector<Value> items = iterate(input);
    std::reverse(items.begin(), items.end());
    return Value::generator(std::move(items));
  }
  const Text& source = input.text();
  Budget::work(source.size());
  Text text;
  for (size_t end = source.size(); end > 0;) {
    const size_t begin = previous_character(source.bytes(), end);
    text.append(source, begin, end);
    end = begin;
  }
  return Value(std::move(text));
}

Value batch(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("batch", arguments, {"linecount", "fill_with"}, 1);
  const int64_t count = bound.integer(0, 1);
  if (count < 1) fail("batch takes a count of at least 1");
  std::vector<Value> lines, line;
  for (const Value& item : iterate(input)) {
    if (static_cast<int64_t>(line.size()) == count) lines.push_back(Value::list(std::exchange(line, {})));
    line.push_back(item);
  }
  if (bound.has(1) && !bound[1].is_none() && !line.empty()) {
    const size_t whole = static_cast<size_t>(count);
    Budget::check(whole, sizeof(Value));
    Budget::work(2 * (whole - line.size()));
    line.resize(whole, bound[1]);
  }
  if (!line.empty()) lines.push_back(Value::list(std::move(line)));
  return Value::generator(std::move(lines));
}

Value slices(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("slice", arguments, {"slices", "fill_with"}, 1);
  const int64_t count = bound.integer(0, 1);
  if (count < 1 || count > 100'000) fail("slice takes a count from 1 to 100,000");
  const std::vector<Value> items = iterate(input);
  const size_t each = items.size() / static_cast<size_t>(count), more = items.size() % static_cast<size_t>(count);
  std::vector<Value> result;
  size_t at = 0;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const size_t size = each + (i < more ? 1 : 0);
    std::vector<Value> part(items.begin() + static_cast<std::ptrdiff_t>(at),
                            items.begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
    if (bound.has(1) && !bound[1].is_none() && i >= more) part.push_back(bound[1]);
    result.push_back(Value::list(std::move(part)));
  }
  return Value::generator(std::move(result));
}

Value items(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("items", arguments, {});
  if (input.is_undefined()) return Value::generator({});
  if (!input.is_dict()) fail("can only get item pairs from a mapping");
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dict().items) pairs.push_back(Value::tuple({key, value}));
  return Value::generator(std::move(pairs));
}

constexpr FilterRow kFilters[] = {
    {"batch", batch},
    KVASS_FILTER("count", (Bound("count", a, {}), Value(length(v)))),
    {"dictsort", dictsort},
    KVASS_FILTER("first", (Bound("first", a, {}), edge(v, true))),
    {"groupby", groupby},
    {"items", items},
    {"join", join},
    KVASS_FILTER("last", (Bound("last", a, {}), edge(v, false))),
    KVASS_FILTER("length", (Bound("length", a, {}), Value(length(v)))),
    KVASS_FILTER("list", (Bound("list", a, {}), Value::list(iterate(v)))),
    {"map", map},
    KVASS_FILTER("max", extreme(interpreter, v, a, true)),
    KVASS_FILTER("min", extreme(interpreter, v, a, false)),
    KVASS_FILTER("reject", choose(interpreter, v, a, false, false)),
    KVASS_FILTER("rejectattr", choose(interpreter, v, a, false, true)),
    {"reverse", reverse},
    KVASS_FILTER("select", choose(interpreter, v, a, true, false)),
    KVASS_FILTER("selectattr", choose(interpreter, v, a, true, true)),
    {"slice", slices},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

Filter find_list_filter(std::string_view name) { return find_row(kFilters, name); }

}  // namespace kvass::jinja
