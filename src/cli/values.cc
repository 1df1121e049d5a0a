#include "cli/values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>

namespace kvass {
namespace {

// Texts that may be empty.
constexpr std::string_view kMayBeEmpty[] = {
    "prompt", "system", "initial-prompt", "prepend-punctuations", "append-punctuations", "suppress-tokens"};
constexpr std::string_view kWholeNumbers[] = {"TOKENS", "TOKENS,...", "N", "N,...", "K"};
constexpr std::string_view kNumbers[] = {"P", "R", "T", "SECONDS"};

template <class List>
bool is_in(const List& list, const std::string& text) {
  return std::find(std::begin(list), std::end(list), text) != std::end(list);
}

std::string got(const std::string& expected, const std::string& text) {
  return "expected " + expected + ", got '" + text + "'";
}

std::string check_whole_number(const std::string& text) {
  const std::string_view digits = std::string_view(text).substr(text.starts_with('+') ? 1 : 0);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) return got("a whole number below 2^63", text);
  if (error != std::errc() || end != digits.data() + digits.size()) return got("a whole number", text);
  return "";
}

std::string check_position(const std::string& text) {
  const std::string wrong = check_whole_number(text);
  return wrong.empty() && text.starts_with('-') ? got("a position from 0 on", text) : wrong;
}

// Seeds are numbers of 64 bits without a sign.
std::string check_seed(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return got("a whole number from 0 to 2^64 - 1", text);
  return "";
}

std::string check_number(const std::string& text) {
  const std::string_view digits = std::string_view(text).substr(text.starts_with('+') ? 1 : 0);
  double value = 0.0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || std::isnan(value)) return got("a number", text);
  return "";
}

std::string check_number_or_none(const std::string& text) { return text == "none" ? "" : check_number(text); }

std::string check_given(const std::string& text) { return text.empty() ? got("a value", text) : ""; }

std::string check_flag(const std::string& text) {
  return text == "true" || text == "false" ? "" : got("no value, or true or false", text);
}

}  // namespace

void check_values(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    const std::vector<std::string>& names = option->get_lnames();
    const auto named = [&](std::string_view name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    const std::string type = option->get_type_name();
    if (option == command.get_help_ptr()) continue;
    if (option->get_items_expected() == 0) {
      option->check(check_flag);
    } else if (named("seed")) {
      option->check(check_seed);
    } else if (is_in(kWholeNumbers, type)) {
      option->check(check_whole_number);
    } else if (type == "POSITION") {
      option->check(check_position);
    } else if (is_in(kNumbers, type)) {
      option->check(check_number);
    } else if (type == "X") {
      option->check(check_number_or_none);
    } else if (std::none_of(std::begin(kMayBeEmpty), std::end(kMayBeEmpty), named)) {
      option->check(check_given);
    }
  }
}

}  // namespace kvass
