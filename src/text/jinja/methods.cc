// Methods of Python's strings, lists and dicts, as templates call them.
#include <algorithm>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"

namespace kvass::jinja {
namespace {

using Method = Value (*)(const Value& self, Arguments&);

std::vector<Value> values_of(std::vector<Text> texts) {
  std::vector<Value> values;
  values.reserve(texts.size());
  for (Text& text : texts) values.emplace_back(std::move(text));
  return values;
}

Value strip(const Value& self, Arguments& arguments, bool left, bool right) {
  Bound bound("strip", arguments, {"chars"});
  if (!bound.has(0) || bound[0].is_none()) return Value(self.text().strip("", left, right));
  const Text& set = bound.text(0);
  return set.empty() ? self : Value(self.text().strip(set.bytes(), left, right));
}

Value split(const Value& self, Arguments& arguments, bool from_right) {
  Bound bound("split", arguments, {"sep", "maxsplit"});
  const int64_t most = bound.integer(1, -1);
  if (!bound.has(0) || bound[0].is_none()) {
    if (from_right && most >= 0) fail("rsplit() without a separator takes no maxsplit here");
    return Value::list(values_of(self.text().split_spaces(most)));
  }
  if (bound.text(0).empty()) fail("empty separator");
  const std::string_view separator = bound.text(0).bytes();
  return Value::list(
      values_of(from_right ? self.text().split_from_right(separator, most) : self.text().split(separator, most)));
}

Value partition(const Value& self, Arguments& arguments, bool from_right) {
  Bound bound("partition", arguments, {"sep"}, 1);
  const Text& separator = bound.text(0);
  if (separator.empty()) fail("empty separator");
  const std::string_view bytes = self.string();
  const size_t at = from_right ? find_last_bytes(bytes, separator.bytes()) : find_bytes(bytes, separator.bytes());
  if (at == std::string_view::npos) {
    if (from_right) return Value::tuple({Value(""), Value(""), self});
    return Value::tuple({self, Value(""), Value("")});
  }
  return Value::tuple({Value(self.text().slice(0, at)), bound[0], Value(self.text().slice(at + separator.size()))});
}

// The bytes [begin, end) of the characters [start, end) that two arguments name; begin > end: Python's empty range that
// does not even have an empty string in it.
std::pair<size_t, size_t> range_of(const Text& text, const Bound& bound) {
  if (!bound.has(1) && !bound.has(2)) return {0, text.size()};
  const int64_t count = static_cast<int64_t>(text.characters());
  const auto place = [&](int64_t at) {
    return text.byte_of(static_cast<size_t>(std::clamp<int64_t>(at < 0 ? at + count : at, 0, count)));
  };
  if (bound.integer(1, 0) > count) return {1, 0};
  return {place(bound.integer(1, 0)), place(bound.integer(2, count))};
}

// startswith, endswith: of one string or of any of a tuple, between optional bounds.
Value affix(const Value& self, Arguments& arguments, bool start) {
  Bound bound(start ? "startswith" : "endswith", arguments, {"prefix", "start", "end"}, 1);
  const auto [begin, end] = range_of(self.text(), bound);
  const bool begin_after_end = begin > end;
  const std::string_view bytes = begin_after_end ? "" : self.string().substr(begin, end - begin);
  const auto fits = [&](const Value& affix) {
    if (!affix.is_string())
      fail("startswith() and endswith() take a string or a tuple of strings, not " + std::string(affix.type_name()));
    Budget::work(2 + affix.text().size() / kStep);
    if (begin_after_end) return false;
    return start ? bytes.starts_with(affix.string()) : bytes.ends_with(affix.string());
  };
  if (!bound[0].is_list() || !bound[0].list().tuple()) return Value(fits(bound[0]));
  return Value(std::any_of(bound[0].list().items.begin(), bound[0].list().items.end(), fits));
}

Value find(const Value& self, Arguments& arguments, bool from_right, bool must) {
  Bound bound("find", arguments, {"sub", "start", "end"}, 1);
  const auto [begin, end] = range_of(self.text(), bound);
  const std::string_view inside = begin <= end ? self.string().substr(begin, end - begin) : std::string_view();
  const std::string_view wanted = bound.text(0).bytes();
  const size_t at = from_right ? find_last_bytes(inside, wanted) : find_bytes(inside, wanted);
  if (at == std::string_view::npos || begin > end) {
    if (must) fail("substring not found");
    return Value(int64_t{-1});
  }
  return Value(static_cast<int64_t>(self.text().slice(0, begin + at).characters()));
}

Value replace(const Value& self, Arguments& arguments) {
  Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  return Value(self.text().replace(bound.text(0), bound.text(1), bound.integer(2, -1)));
}

Value count(const Value& self, Arguments& arguments) {
  Bound bound("count", arguments, {"sub", "start", "end"}, 1);
  const auto [begin, end] = range_of(self.text(), bound);
  if (begin > end) return Value(int64_t{0});
  const Text inside = self.text().slice(begin, end);
  const std::string_view wanted = bound.text(0).bytes();
  if (wanted.empty()) return Value(static_cast<int64_t>(inside.characters()) + 1);
  int64_t times = 0;
  for (size_t at = find_bytes(inside.bytes(), wanted); at != std::string_view::npos; ++times)
    at = find_bytes(inside.bytes(), wanted, at + wanted.size());
  return Value(times);
}

Value join(const Value& self, Arguments& arguments) {
  Bound bound("join", arguments, {"iterable"}, 1);
  Text text;
  bool first = true;
  for (const Value& item : iterate(bound[0])) {
    if (!item.is_string()) fail("sequence item: expected str instance, " + std::string(item.type_name()) + " found");
    if (!first) text.append(self.text());
    first = false;
    text.append(item.text());
  }
  return Value(std::move(text));
}

// Characters that are missing to a width.
int64_t missing_to(int64_t width, const Value& self) {
  const int64_t count = length(self);
  return width > count ? width - count : 0;
}

Value pad(const Value& self, Arguments& arguments, bool left, bool right) {
  Bound bound("pad", arguments, {"width", "fillchar"}, 1);
  const int64_t width = bound.integer(0, 0), missing = missing_to(width, self);
  if (missing == 0) return self;
  const Text fill = bound.text_or(1, " ");
  if (fill.characters() != 1) fail("the fill character must be exactly one character long");
  const int64_t before = left && right ? missing / 2 + (missing & width & 1) : left ? missing : 0;
  Text text;
  text.append_times(fill, static_cast<size_t>(before));
  text.append(self.text());
  text.append_times(fill, static_cast<size_t>(missing - before));
  return Value(std::move(text));
}

Value zero_fill(const Value& self, Arguments& arguments) {
  Bound bound("zfill", arguments, {"width"}, 1);
  const int64_t missing = missing_to(bound.integer(0, 0), self);
  if (missing == 0) return self;
  const bool sign = self.string().starts_with('-') || self.string().starts_with('+');
  Text text = self.text().slice(0, sign ? 1 : 0);
  text.append_times(Text("0"), static_cast<size_t>(missing));
  text.append(self.text(), sign ? 1 : 0, self.text().size());
  return Value(std::move(text));
}

template <class Fits>
bool all_characters(const Value& self, Fits&& fits) {
  const Text& text = self.text();
  Budget::work(4 * text.size());
  for (size_t at = 0; at < text.size();) {
    if (!fits(decode_character(text.bytes(), at))) return false;
  }
  return !text.empty();
}

// str.format with {} {0} {name} and no format specification.
Value format(const Value& self, Arguments& arguments) {
  const std::string_view bytes = self.string();
  Text text;
  size_t next = 0;
  for (size_t at = 0; at < bytes.size();) {
    const char c = bytes[at];
    if (c != '{' && c != '}') {
      const size_t end = std::min(bytes.find_first_of("{}", at), bytes.size());
      text.append(self.text(), at, end);
      at = end;
      continue;
    }
    if (at + 1 < bytes.size() && bytes[at + 1] == c) {
      text.append(self.text(), at, at + 1);
      at += 2;
      continue;
    }
    const size_t end = bytes.find('}', at);
    if (c == '}' || end == std::string_view::npos)
      fail("format(): a single '" + std::string(1, c) + "' in the format string");
    const std::string field(bytes.substr(at + 1, end - at - 1));
    at = end + 1;
    if (field.find_first_of(":!.[") != std::string::npos)
      fail("format(): the field '{" + field + "}' is not supported, only {}, {0} and {name}");
    const bool number =
        std::all_of(field.begin(), field.end(), [](char d) { return is_digit(static_cast<uint8_t>(d)); });
    if (number) {
      const size_t index = field.empty()      ? next++
                           : field.size() > 6 ? arguments.positional.size()
                                              : static_cast<size_t>(std::stoul(field));
      if (index >= arguments.positional.size()) fail("format(): index out of range");
      text.append(arguments.positional[index].str());
      continue;
    }
    Budget::work(4 * arguments.named.size());
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& item) { return item.first == field; });
    if (named == arguments.named.end()) fail("format(): no argument '" + field + "'");
    text.append(named->second.str());
  }
  return Value(std::move(text));
}

Value dict_get(const Value& self, Arguments& arguments) {
  Bound bound("get", arguments, {"key", "default"}, 1);
  const Value* found = self.dict().find(bound[0]);
  return found ? *found : bound.has(1) ? bound[1] : Value(None{});
}

Value dict_view(const Value& self, Arguments& arguments, const char* of) {
  Bound bound(of, arguments, {});
  const bool keys = *of != 'v', values = *of != 'k';
  Budget::bytes(self.dict().items.size(), sizeof(Value));
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().items) {
    items.push_back(keys && values ? Value::tuple({key, value}) : keys ? key : value);
  }
  return Value::view(std::move(items), of);
}

Value list_index(const Value& self, Arguments& arguments) {
  Bound bound("index", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.list().items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], bound[0])) return Value(static_cast<int64_t>(i));
  }
  fail("the value is not in the list");
}

Value list_count(const Value& self, Arguments& arguments) {
  Bound bound("count", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.list().items;
  return Value(static_cast<int64_t>(
      std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(item, bound[0]); })));
}

Value with_case(const Value& self, Arguments& arguments, Text::Case kind) {
  Bound bound("upper", arguments, {});
  return Value(self.text().with_case(kind));
}

struct Row {
  std::string_view name;
  Method method;  // null: it would change the object
};
#define KVASS_METHOD(name, ...)                                                \
  {                                                                            \
    name, [](const Value& self, Arguments& a) -> Value { return __VA_ARGS__; } \
  }
constexpr Row kString[] = {
    KVASS_METHOD("strip", strip(self, a, true, true)),
    KVASS_METHOD("lstrip", strip(self, a, true, false)),
    KVASS_METHOD("rstrip", strip(self, a, false, true)),
    KVASS_METHOD("split", split(self, a, false)),
    KVASS_METHOD("rsplit", split(self, a, true)),
    KVASS_METHOD("splitlines",
                 Value::list(values_of(self.text().lines(Bound("splitlines", a, {"keepends"}).boolean(0, false))))),
    KVASS_METHOD("partition", partition(self, a, false)),
    KVASS_METHOD("rpartition", partition(self, a, true)),
    KVASS_METHOD("startswith", affix(self, a, true)),
    KVASS_METHOD("endswith", affix(self, a, false)),
    KVASS_METHOD("find", find(self, a, false, false)),
    KVASS_METHOD("rfind", find(self, a, true, false)),
    KVASS_METHOD("index", find(self, a, false, true)),
    KVASS_METHOD("rindex", find(self, a, true, true)),
    {"count", count},
    {"replace", replace},
    {"join", join},
    {"format", format},
    KVASS_METHOD("lower", with_case(self, a, Text::Case::lower)),
    KVASS_METHOD("casefold", with_case(self, a, Text::Case::fold)),
    KVASS_METHOD("upper", with_case(self, a, Text::Case::upper)),
    KVASS_METHOD("capitalize", with_case(self, a, Text::Case::capitalize)),
    KVASS_METHOD("title", with_case(self, a, Text::Case::title)),
    KVASS_METHOD("swapcase", with_case(self, a, Text::Case::swap)),
    KVASS_METHOD("ljust", pad(self, a, false, true)),
    KVASS_METHOD("rjust", pad(self, a, true, false)),
    KVASS_METHOD("center", pad(self, a, true, true)),
    {"zfill", zero_fill},
    KVASS_METHOD("removeprefix",
                 [&] {
                   Bound bound("removeprefix", a, {"prefix"}, 1);
                   return self.string().starts_with(bound.text(0).bytes())
                              ? Value(self.text().slice(bound.text(0).size()))
                              : self;
                 }()),
    KVASS_METHOD("removesuffix",
                 [&] {
                   Bound bound("removesuffix", a, {"suffix"}, 1);
                   return self.string().ends_with(bound.text(0).bytes())
                              ? Value(self.text().slice(0, self.text().size() - bound.text(0).size()))
                              : self;
                 }()),
    KVASS_METHOD("isspace", (Bound("isspace", a, {}), Value(all_characters(self, is_space)))),
    KVASS_METHOD("isdigit", (Bound("isdigit", a, {}), Value(all_characters(self, is_digit)))),
    KVASS_METHOD("isdecimal", (Bound("isdecimal", a, {}), Value(all_characters(self, is_digit)))),
    KVASS_METHOD("isnumeric", (Bound("isnumeric", a, {}), Value(all_characters(self, is_digit)))),
    KVASS_METHOD("isalpha", (Bound("isalpha", a, {}), Value(all_characters(self, is_alphabetic)))),
    KVASS_METHOD("isalnum", (Bound("isalnum", a, {}),
                             Value(all_characters(self, [](uint32_t c) { return is_alphabetic(c) || is_digit(c); })))),
    KVASS_METHOD("isascii", (Bound("isascii", a, {}), Value(self.text().ascii()))),
    KVASS_METHOD("islower", (Bound("islower", a, {}), Value(has_case(self, false)))),
    KVASS_METHOD("isupper", (Bound("isupper", a, {}), Value(has_case(self, true)))),
};
constexpr Row kDict[] = {
    {"get", dict_get},
    KVASS_METHOD("items", dict_view(self, a, "items")),
    KVASS_METHOD("keys", dict_view(self, a, "keys")),
    KVASS_METHOD("values", dict_view(self, a, "values")),
    KVASS_METHOD("copy", (Bound("copy", a, {}), self)),
    {"clear", nullptr},
    {"pop", nullptr},
    {"popitem", nullptr},
    {"setdefault", nullptr},
    {"update", nullptr},
};
constexpr Row kList[] = {
    {"index", list_index}, {"count", list_count}, KVASS_METHOD("copy", (Bound("copy", a, {}), self)),
    {"append", nullptr},   {"clear", nullptr},    {"extend", nullptr},
    {"insert", nullptr},   {"pop", nullptr},      {"remove", nullptr},
    {"reverse", nullptr},  {"sort", nullptr},
};
#undef KVASS_METHOD

template <size_t N>
const Row* find_row(const Row (&rows)[N], std::string_view name) {
  for (const Row& row : rows) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace

std::optional<Value> find_method(const Value& self, std::string_view name) {
  const Row* row = self.is_string()                         ? find_row(kString, name)
                   : self.is_dict()                         ? find_row(kDict, name)
                   : self.is_list() && !self.is_generator() ? find_row(kList, name)
                                                            : nullptr;
  if (row == nullptr) return std::nullopt;
  if (row->method == nullptr) {
    return Value::undefined("access to attribute '" + std::string(name) + "' of '" + std::string(self.type_name()) +
                            "' object is unsafe.");
  }
  Budget::work(2 * kStep);
  const Method method = row->method;
  const int depth = self.depth() + 1;
  check_depth(depth);
  return Value(std::shared_ptr<Object>(std::make_shared<Function>(
      std::string(name), [method, self](Interpreter&, Arguments& arguments) { return method(self, arguments); },
      depth)));
}

}  // namespace kvass::jinja
