// jinja2's filters of strings, numbers and single values, and the look-up of all filters. Those that make HTML or
// random choices (random, urlize, striptags, xmlattr, filesizeformat, pprint, wordwrap) are left out: a template that
// uses one is refused by its name.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/filter_row.h"
#include "text/jinja/format.h"
#include "text/jinja/interpreter.h"

namespace kvass::jinja {
namespace {

// What a word of `title` begins after.
bool begins_word(uint32_t c) { return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; }

Value title(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("title", arguments, {});
  const Text text = input.str();
  Budget::work(text.size());
  Text result;
  // Each word: its first character, and the rest as a whole, for which a capital sigma may be the last letter.
  for (size_t at = 0; at < text.size();) {
    const size_t first = at;
    uint32_t c = decode_character(text.bytes(), at);
    result.append(text.slice(first, at).with_case(Text::Case::upper));
    if (begins_word(c)) continue;
    const size_t rest = at;
    while (at < text.size() && !begins_word(c)) c = decode_character(text.bytes(), at);
    result.append(text.slice(rest, at).with_case(Text::Case::lower));
  }
  return Value(std::move(result));
}

Value indent(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("indent", arguments, {"width", "first", "blank"});
  Text by;
  if (bound.has(0) && bound[0].is_string()) {
    by = bound.text(0);
  } else {
    by.append_times(Text(" "), static_cast<size_t>(std::max<int64_t>(bound.integer(0, 4), 0)));
  }
  Text source = input.str();
  source.append("\n");
  const std::vector<Text> lines = source.lines(false);
  const bool blank = bound.boolean(2, false);
  Text text;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i != 0) text.append("\n");
    if (i == 0 ? bound.boolean(1, false) : blank || !lines[i].empty()) text.append(by);
    text.append(lines[i]);
  }
  return Value(std::move(text));
}

Value replace(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  return Value(input.str().replace(bound[0].str(), bound[1].str(), bound.integer(2, -1)));
}

Value trim(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("trim", arguments, {"chars"});
  const Text text = input.str();
  if (!bound.has(0) || bound[0].is_none()) return Value(text.strip("", true, true));
  return bound.text(0).empty() ? Value(text) : Value(text.strip(bound.text(0).bytes(), true, true));
}

Value truncate(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const Text text = input.str(), end = bound.text_or(2, "...");
  const int64_t length = bound.integer(0, 255), leeway = bound.integer(3, 5);
  const std::vector<size_t> begins = text.offsets();
  const int64_t count = static_cast<int64_t>(begins.size()) - 1, ending = static_cast<int64_t>(end.characters());
  if (length < ending)
    fail("truncate: expected length >= " + std::to_string(ending) + ", got " + std::to_string(length));
  if (leeway < 0) fail("truncate: expected leeway >= 0");
  if (count <= length + leeway) return Value(text);
  Text cut = text.slice(0, begins[static_cast<size_t>(length - ending)]);
  if (!bound.boolean(1, false)) cut = cut.slice(0, std::min(cut.bytes().rfind(' '), cut.size()));
  cut.append(end);
  return Value(std::move(cut));
}

Value center(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("center", arguments, {"width"});
  Arguments width{{Value(bound.integer(0, 80))}, {}};
  return interpreter.call(*find_method(Value(input.str()), "center"), width);
}

Value escape(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("escape", arguments, {});
  Text text = input.str();
  for (const auto& [from, to] : {std::pair("&", "&amp;"), std::pair("<", "&lt;"), std::pair(">", "&gt;"),
                                 std::pair("'", "&#39;"), std::pair("\"", "&#34;")}) {
    text = text.replace(Text(from), Text(to), -1);
  }
  return Value(std::move(text));
}

Value urlencode(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("urlencode", arguments, {});
  const auto quote = [](const Value& value, bool form) {
    constexpr char kHex[] = "0123456789ABCDEF";
    std::string text;
    const Text source = value.str();
    Budget::work(2 * source.size());
    for (const char c : source.bytes()) {
      const auto byte = static_cast<uint8_t>(c);
      const bool plain = std::isalnum(byte) || std::string_view("_.-~").find(c) != std::string_view::npos;
      if (plain || (c == '/' && !form)) {
        text.push_back(c);
      } else if (form && c == ' ') {
        text.push_back('+');
      } else {
        text.append({'%', kHex[byte >> 4], kHex[byte & 15]});
      }
    }
    return text;
  };
  if (input.is_string()) return Value(Text(quote(input, false)));
  std::string text;
  for (const Value& pair : iterate(input.is_dict() ? interpreter.filter("items", input, arguments) : input)) {
    const std::vector<Value> both = iterate(pair);
    if (both.size() != 2) fail("urlencode takes pairs");
    text += (text.empty() ? "" : "&") + quote(both[0], true) + "=" + quote(both[1], true);
  }
  return Value(Text(std::move(text)));
}

Value wordcount(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("wordcount", arguments, {});
  const Text text = input.str();
  Budget::work(2 * text.size());
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const uint32_t c = decode_character(text.bytes(), at);
    const bool word = is_alphabetic(c) || is_digit(c) || c == '_';
    words += word && !inside ? 1 : 0;
    inside = word;
  }
  return Value(words);
}

// "%s: %d" % values, with the conversions that texts use.
Value format(Interpreter&, const Value& input, Arguments& arguments) {
  const Text source = input.str();
  const std::string_view bytes = source.bytes();
  Text text;
  size_t next = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t end = std::min(bytes.find('%', at), bytes.size());
    text.append(source, at, end);
    if (end == bytes.size()) break;
    at = end + 1;
    const Conversion conversion = read_conversion(bytes, at);
    if (conversion.letter == '%' && at == end + 2) {
      text.append("%");
      continue;
    }
    if (next >= arguments.positional.size()) fail("not enough arguments for format string");
    text.append(convert(conversion, arguments.positional[next++]));
  }
  if (next < arguments.positional.size()) fail("not all arguments converted during string formatting");
  return Value(std::move(text));
}

// ---- numbers ----

std::optional<double> parse_float(std::string_view text) {
  double value = 0.0;
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> parse_int(std::string_view text, int base) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const bool marked = text.size() > 2 && text[0] == '0' &&
                      ((base == 16 && (text[1] | 32) == 'x') || (base == 8 && (text[1] | 32) == 'o') ||
                       (base == 2 && (text[1] | 32) == 'b'));
  if (marked) text.remove_prefix(2);
  int64_t value = 0;
  if (text.empty() || text[0] == '-') return std::nullopt;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return negative ? -value : value;
}

Value to_int(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("int", arguments, {"default", "base"});
  const Value fallback = bound.has(0) ? bound[0] : Value(int64_t{0});
  const int64_t base = bound.integer(1, 10);
  if (input.is_undefined()) fail(input.why_undefined());
  if (base < 2 || base > 36) return fallback;
  std::optional<double> real;
  if (input.is_int() || input.is_bool()) return Value(input.integer());
  if (input.is_float()) real = input.real();
  if (input.is_string()) {
    const Text text = input.text().strip("", true, true);
    if (const std::optional<int64_t> value = parse_int(text.bytes(), static_cast<int>(base))) return Value(*value);
    real = parse_float(text.bytes());
  }
  if (!real || !(std::fabs(*real) < 9.2e18)) return fallback;
  return Value(static_cast<int64_t>(*real));
}

Value to_float(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("float", arguments, {"default"});
  if (input.is_undefined()) fail(input.why_undefined());
  if (input.is_number()) return Value(input.real());
  if (input.is_string()) {
    if (const std::optional<double> value = parse_float(input.text().strip("", true, true).bytes()))
      return Value(*value);
  }
  return bound.has(0) ? bound[0] : Value(0.0);
}

Value absolute(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("abs", arguments, {});
  if (input.is_undefined()) fail(input.why_undefined());
  if (!input.is_number()) fail("bad operand type for abs(): '" + std::string(input.type_name()) + "'");
  if (input.is_float()) return Value(std::fabs(input.real()));
  return input.integer() < 0 ? interpreter.arithmetic("-", Value(int64_t{0}), input) : Value(input.integer());
}

Value round_to(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("round", arguments, {"precision", "method"});
  const int64_t precision = bound.integer(0, 0);
  const std::string method(bound.text_or(1, "common").bytes());
  if (method != "common" && method != "ceil" && method != "floor") fail("method must be common, ceil or floor");
  if (input.is_undefined()) fail(input.why_undefined());
  if (!input.is_number()) fail("round takes a number, not " + std::string(input.type_name()));
  if (method == "common") {
    if (!input.is_float()) return Value(input.integer());
    constexpr int64_t kMostDigits = 323, kLeastDigits = -308;  // beyond, a double is itself or 0
    if (!std::isfinite(input.real()) || precision > kMostDigits) return input;
    if (precision < kLeastDigits) return Value(0.0 * input.real());
    if (precision < 0) {
      const double unit = std::pow(10.0, static_cast<double>(-precision));
      return Value(std::nearbyint(input.real() / unit) * unit);
    }
    char buffer[700];
    std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(precision), input.real());
    return Value(std::strtod(buffer, nullptr));
  }
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.real() * unit;
  if (unit == 0.0 || !std::isfinite(unit) || !std::isfinite(scaled)) {
    fail("round: a precision of " + std::to_string(precision) + " is beyond what a number has");
  }
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit);
}

Value tojson(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.boolean(0, false);
  if (bound.has(1) && !bound[1].is_none()) style.indent = std::max<int64_t>(bound.integer(1, 0), 0);
  if (bound.has(2) && !bound[2].is_none()) {
    const std::vector<Value> both = iterate(bound[2]);
    if (both.size() != 2 || !both[0].is_string() || !both[1].is_string()) fail("tojson: separators are two strings");
    style.item_separator = both[0].string();
    style.key_separator = both[1].string();
  }
  style.sort_keys = bound.boolean(3, false);
  return Value(to_json(input, style));
}

Value fallback(Interpreter&, const Value& input, Arguments& arguments) {
  Bound bound("default", arguments, {"default_value", "boolean"});
  const bool use = input.is_undefined() || (bound.boolean(1, false) && !input.truth());
  return use ? (bound.has(0) ? bound[0] : Value("")) : input;
}

Value attribute(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  Bound bound("attr", arguments, {"name"}, 1);
  if (input.is_object()) return interpreter.attribute(input, bound.text(0).bytes());
  if (std::optional<Value> method = find_method(input, bound.text(0).bytes())) return *method;
  return Value::undefined("no attribute '" + std::string(bound.text(0).bytes()) + "'");
}

Value with_case(const Value& input, Arguments& arguments, Text::Case kind) {
  Bound bound("upper", arguments, {});
  return Value(input.str().with_case(kind));
}

constexpr FilterRow kFilters[] = {
    {"abs", absolute},
    {"attr", attribute},
    KVASS_FILTER("capitalize", with_case(v, a, Text::Case::capitalize)),
    {"center", center},
    {"d", fallback},
    {"default", fallback},
    {"e", escape},
    {"escape", escape},
    {"forceescape", escape},
    {"float", to_float},
    {"format", format},
    {"indent", indent},
    {"int", to_int},
    KVASS_FILTER("lower", with_case(v, a, Text::Case::lower)),
    {"replace", replace},
    {"round", round_to},
    KVASS_FILTER("safe", (Bound("safe", a, {}), Value(v.str()))),
    KVASS_FILTER("string", (Bound("string", a, {}), Value(v.str()))),
    {"title", title},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    KVASS_FILTER("upper", with_case(v, a, Text::Case::upper)),
    {"urlencode", urlencode},
    {"wordcount", wordcount},
};

}  // namespace

Filter find_filter(std::string_view name) {
  const Filter filter = find_row(kFilters, name);
  return filter ? filter : find_list_filter(name);
}

}  // namespace kvass::jinja
