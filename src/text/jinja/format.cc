#include "text/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja/budget.h"

namespace kvass::jinja {
namespace {

constexpr size_t kMostPrecision = 1100;  // a double has no more digits than that

size_t read_number(std::string_view format, size_t& at, const char* what) {
  size_t number = 0;
  for (; at < format.size() && is_digit(static_cast<uint8_t>(format[at])); ++at) {
    number = number * 10 + static_cast<size_t>(format[at] - '0');
    if (number > INT32_MAX) fail(std::string("format: expected a ") + what + " below 2^31, got a larger one");
  }
  return number;
}

int64_t integer_of(const Value& value, char letter) {
  if (!value.is_float()) return value.integer();
  if (letter == 'x' || letter == 'X') fail(std::string("format: %") + letter + " takes an integer, not float");
  if (!(std::fabs(value.real()) < 9.2e18)) fail("an integer is beyond 64 bits");
  return static_cast<int64_t>(value.real());
}

// The digits with their sign; the width is left to `padded`.
std::string number_text(const Conversion& conversion, const Value& value) {
  const auto has = [&](char flag) { return conversion.flags.find(flag) != std::string::npos; };
  const char letter = conversion.letter;
  const bool real = std::string_view("diuxX").find(letter) == std::string_view::npos;
  // C prints no digit of an integer 0 with the precision 0; Python prints one.
  const std::string precision =
      conversion.precision ? "." + std::to_string(std::max<size_t>(*conversion.precision, real ? 0 : 1)) : "";
  const std::string signs = has('+') ? "+" : has(' ') ? " " : "";
  char digits[2500];  // a double has 309 before the point
  const auto print = [&](const std::string& spec, auto number) {
    return std::string(digits, static_cast<size_t>(std::snprintf(digits, sizeof digits, spec.c_str(), number)));
  };
  if (real) {
    return print("%" + signs + (has('#') ? "#" : "") + precision + letter, value.real());
  }
  const int64_t integer = integer_of(value, letter);
  if (letter != 'x' && letter != 'X') {
    return print("%" + signs + precision + "lld", static_cast<long long>(integer));
  }
  const uint64_t magnitude = integer < 0 ? 0 - static_cast<uint64_t>(integer) : static_cast<uint64_t>(integer);
  const std::string mark = has('#') ? std::string("0") + letter : "";
  return (integer < 0 ? "-" : signs) + mark +
         print("%" + precision + "ll" + letter, static_cast<unsigned long long>(magnitude));
}

Text padded(const Conversion& conversion, const Text& text, bool number) {
  const size_t characters = text.characters();
  const auto has = [&](char flag) { return conversion.flags.find(flag) != std::string::npos; };
  const size_t missing = conversion.width > characters ? conversion.width - characters : 0;
  if (missing == 0) return text;
  const bool zeros = number && has('0') && !has('-');
  Text result;
  if (has('-')) {
    result = text;
    result.append_times(Text(" "), missing);
  } else if (zeros) {  // after the sign and 0x
    size_t begin = std::string_view("+- ").find(text.bytes()[0]) != std::string_view::npos ? 1 : 0;
    const std::string_view rest = text.bytes().substr(begin, 2);
    if (rest == "0x" || rest == "0X") begin += 2;
    result.append(text, 0, begin);
    result.append_times(Text("0"), missing);
    result.append(text, begin, text.size());
  } else {
    result.append_times(Text(" "), missing);
    result.append(text);
  }
  return result;
}

}  // namespace

Conversion read_conversion(std::string_view format, size_t& at) {
  Conversion conversion;
  for (; at < format.size() && std::string_view("-+ #0").find(format[at]) != std::string_view::npos; ++at) {
    if (conversion.flags.find(format[at]) == std::string::npos) conversion.flags += format[at];
  }
  conversion.width = read_number(format, at, "width");
  if (at < format.size() && format[at] == '.') conversion.precision = read_number(format, ++at, "precision");
  while (at < format.size() && std::string_view("hlL").find(format[at]) != std::string_view::npos) ++at;
  if (at >= format.size()) fail("incomplete format");
  conversion.letter = format[at++];
  return conversion;
}

Text convert(const Conversion& conversion, const Value& value) {
  Budget::work(4 * kStep);
  const char letter = conversion.letter;
  if (letter == 's' || letter == 'r') {
    const Text text = letter == 's' ? value.str() : value.repr();
    const size_t end = conversion.precision ? text.byte_of(*conversion.precision) : text.size();
    return padded(conversion, text.slice(0, end), /*number=*/false);
  }
  if (std::string_view("diuxXeEfFgG").find(letter) == std::string_view::npos) {
    fail("format: expected one of the letters d i u x X e E f F g G s r after %, got another");
  }
  if (!value.is_number()) fail(std::string("format: %") + letter + " does not take " + std::string(value.type_name()));
  if (conversion.precision.value_or(0) > kMostPrecision) {
    fail("format: expected a precision of at most " + std::to_string(kMostPrecision) + ", got " +
         std::to_string(*conversion.precision));
  }
  return padded(conversion, Text(number_text(conversion, value)), /*number=*/true);
}

}  // namespace kvass::jinja
