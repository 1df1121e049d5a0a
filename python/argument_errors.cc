// One line for a call whose arguments do not fit. nanobind describes such a call by the signature and the types that
// were given, on lines of their own; the linker leads its PyErr_SetString here (CMakeLists.txt), where the line of that
// text is made that kvass's other errors have: what, what was expected, what was got.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvass/status.h"

namespace kvass::python {
namespace {

struct Parameter {
  std::string name, type;
  bool required = false;
  bool by_keyword = false;  // only
};

struct Given {
  std::string name;  // empty: by its place
  std::string type;
};

struct Call {
  std::string function;
  std::vector<Parameter> parameters;
  std::vector<Given> given;
};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

// At the commas outside of brackets.
std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  int depth = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      const std::string_view part = trimmed(text.substr(begin, i - begin));
      if (!part.empty()) parts.push_back(part);
      begin = i + 1;
    } else if (text[i] == '[' || text[i] == '(' || text[i] == '{') {
      ++depth;
    } else if (text[i] == ']' || text[i] == ')' || text[i] == '}') {
      --depth;
    }
  }
  return parts;
}

// "q: object, *, causal: bool = True"
std::vector<Parameter> parameters_of(std::string_view signature) {
  std::vector<Parameter> parameters;
  bool by_keyword = false;
  for (std::string_view part : parts_of(signature)) {
    if (part == "/") continue;
    if (part == "*") {
      by_keyword = true;
      continue;
    }
    const size_t standard = std::min(part.find(" = "), part.size());
    const size_t colon = std::min(part.find(": "), standard);
    const std::string_view type = colon < standard ? part.substr(colon + 2, standard - colon - 2) : "";
    parameters.push_back({std::string(part.substr(0, colon)), std::string(type), standard == part.size(), by_keyword});
  }
  return parameters;
}

// "int, str, kwargs = { threads: str }"
std::vector<Given> given_of(std::string_view text) {
  constexpr std::string_view kNamed = "kwargs = { ";
  std::vector<Given> given;
  const size_t named = text.find(kNamed);
  for (const std::string_view type : parts_of(text.substr(0, named))) given.push_back({"", std::string(type)});
  if (named == text.npos) return given;
  text = trimmed(text.substr(named + kNamed.size()));
  if (!text.empty() && text.back() == '}') text.remove_suffix(1);
  for (const std::string_view part : parts_of(text)) {
    const size_t colon = part.find(": ");
    if (colon != part.npos) given.push_back({std::string(part.substr(0, colon)), std::string(part.substr(colon + 2))});
  }
  return given;
}

// What the text says of the call; nothing where it is not of the kind, or has several signatures.
std::optional<Call> read(std::string_view text) {
  constexpr std::string_view kKind = "(): incompatible function arguments.", kFirst = "\n    1. ",
                             kSecond = "\n    2. ", kTypes = "\nInvoked with types: ";
  const size_t kind = text.find(kKind), first = text.find(kFirst), types = text.rfind(kTypes);
  if (kind == text.npos || first == text.npos || types == text.npos || text.find(kSecond) != text.npos) return {};
  const std::string_view signature = text.substr(first + kFirst.size(), types - first - kFirst.size());
  const size_t opened = signature.find('('), result = signature.rfind(") -> ");
  const size_t closed = result != signature.npos ? result : signature.rfind(')');
  if (opened == signature.npos || closed == signature.npos || closed < opened) return {};
  Call call;
  call.function = text.substr(0, kind);
  call.parameters = parameters_of(signature.substr(opened + 1, closed - opened - 1));
  call.given = given_of(text.substr(types + kTypes.size()));
  if (!call.parameters.empty() && call.parameters.front().name == "self" && !call.given.empty()) {
    const std::string& type = call.given.front().type;
    if (call.function == "__init__") call.function = type.substr(type.rfind('.') + 1);
    call.parameters.erase(call.parameters.begin());
    call.given.erase(call.given.begin());
  }
  return call;
}

bool has_word(std::string_view type, std::string_view word) {
  for (size_t at = type.find(word); at != type.npos; at = type.find(word, at + 1)) {
    const auto is_letter = [&](size_t i) {
      return i < type.size() && (isalnum(static_cast<unsigned char>(type[i])) || type[i] == '_');
    };
    if ((at == 0 || !is_letter(at - 1)) && !is_letter(at + word.size())) return true;
  }
  return false;
}

// Whether a value of the type may be what the parameter wants, by their names.
bool may_fit(const std::string& wanted, const std::string& type) {
  if (type == "NoneType") return has_word(wanted, "None");
  const bool standard = type == "int" || type == "float" || type == "str" || type == "bool" || type == "bytes";
  const bool scalar =
      has_word(wanted, "int") || has_word(wanted, "float") || has_word(wanted, "bool") || has_word(wanted, "str");
  if (wanted.empty() || has_word(wanted, "object") || has_word(wanted, "Any") || !scalar)
    return !standard || !has_word(wanted, "Sequence");
  if (type == "int") return has_word(wanted, "int") || has_word(wanted, "float");
  if (standard || type == "list" || type == "tuple" || type == "dict") return has_word(wanted, type);
  return false;
}

// The value that each parameter gets, or what is wrong with the call.
struct Bound {
  std::vector<const Given*> values;  // [parameters] null: not given
  std::string line;                  // of the error; empty: none
};

std::string line(const Call& call, const std::string& what, const std::string& expected, const std::string& got) {
  return expected_message(call.function + (what.empty() ? "" : ": " + what), expected, got);
}

Bound bind(const Call& call) {
  Bound bound;
  bound.values.resize(call.parameters.size());
  const auto places = static_cast<size_t>(std::count_if(call.parameters.begin(), call.parameters.end(),
                                                        [](const Parameter& one) { return !one.by_keyword; }));
  size_t next = 0;
  for (const Given& one : call.given) {
    if (one.name.empty()) {
      if (next < places) bound.values[next] = &one;
      ++next;
      continue;
    }
    const auto found = std::find_if(call.parameters.begin(), call.parameters.end(),
                                    [&](const Parameter& p) { return p.name == one.name; });
    if (found == call.parameters.end()) {
      std::string known;
      for (const Parameter& p : call.parameters) known.append(known.empty() ? "" : ", ").append(p.name);
      bound.line = line(call, one.name, "one of " + known, "another keyword");
      return bound;
    }
    const Given*& slot = bound.values[static_cast<size_t>(found - call.parameters.begin())];
    if (slot != nullptr) {
      bound.line = line(call, one.name, "one value", "two");
      return bound;
    }
    slot = &one;
  }
  if (next > places) {
    bound.line =
        line(call, "", "at most " + std::to_string(places) + " arguments without a name", std::to_string(next));
  }
  return bound;
}

std::string line_of(const Call& call) {
  const Bound bound = bind(call);
  if (!bound.line.empty()) return bound.line;
  std::string integers, expected, got;
  const auto add = [](std::string& list, const char* between, const std::string& one) {
    list.append(list.empty() ? "" : between).append(one);
  };
  for (size_t i = 0; i < bound.values.size(); ++i) {
    const Parameter& wanted = call.parameters[i];
    const Given* const value = bound.values[i];
    if (value == nullptr) {
      if (wanted.required) return line(call, wanted.name, wanted.type.empty() ? "a value" : wanted.type, "none");
      continue;
    }
    if (!may_fit(wanted.type, value->type)) return line(call, wanted.name, wanted.type, value->type);
    if (value->type == "int" && has_word(wanted.type, "int")) add(integers, " or ", wanted.name);
    add(expected, ", ", wanted.name + ": " + wanted.type);
    add(got, ", ", value->type);
  }
  // By their types all would fit.
  if (!integers.empty()) return line(call, integers, "an integer that fits", "one that is too large");
  return line(call, "", "values for " + expected, "others of " + got);
}

}  // namespace
}  // namespace kvass::python

extern "C" {
void __real_PyErr_SetString(PyObject* type, const char* message);
void __wrap_PyErr_SetString(PyObject* type, const char* message) {
  const std::optional<kvass::python::Call> call = kvass::python::read(message);
  __real_PyErr_SetString(type, call ? kvass::python::line_of(*call).c_str() : message);
}
}
