// jinja2's tests: what stands after `is`.
#include <cmath>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"

namespace kvass::jinja {

bool has_case(const Value& value, bool upper) {
  const Text text = value.str();
  Budget::work(8 * text.size());
  bool letters = false;
  for (size_t at = 0; at < text.size();) {
    const uint32_t c = decode_character(text.bytes(), at);
    const bool is_upper = to_lower(c) != c, is_lower = to_upper(c) != c;
    if (upper ? is_lower : is_upper) return false;
    letters = letters || is_upper || is_lower;
  }
  return letters;
}

namespace {

const Value& operand(Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.named.empty()) fail("the test takes one argument");
  return arguments.positional[0];
}

int64_t remainder(const Value& value, int64_t divisor) {
  if (value.is_undefined()) fail(value.why_undefined());
  if (!value.is_int() && !value.is_bool()) fail("the test takes an integer, not " + std::string(value.type_name()));
  if (divisor == 0) fail("integer modulo by zero");
  return divisor == -1 ? 0 : value.integer() % divisor;
}

bool iterable(const Value& v) { return v.is_string() || v.is_list() || v.is_dict() || v.is_undefined(); }

struct Row {
  std::string_view name;
  Test test;
};
#define KVASS_TEST(name, ...)                                      \
  {                                                                \
    name, [](Interpreter&, const Value& v, Arguments& a) -> bool { \
      (void)v, (void)a;                                            \
      return __VA_ARGS__;                                          \
    }                                                              \
  }
constexpr Row kTests[] = {
    KVASS_TEST("defined", !v.is_undefined()),
    KVASS_TEST("undefined", v.is_undefined()),
    KVASS_TEST("none", v.is_none()),
    KVASS_TEST("boolean", v.is_bool()),
    KVASS_TEST("true", v.is_bool() && v.boolean()),
    KVASS_TEST("false", v.is_bool() && !v.boolean()),
    KVASS_TEST("integer", v.is_int()),
    KVASS_TEST("float", v.is_float()),
    KVASS_TEST("number", v.is_number()),
    KVASS_TEST("string", v.is_string()),
    KVASS_TEST("mapping", v.is_dict()),
    KVASS_TEST("iterable", iterable(v)),
    KVASS_TEST("sequence", iterable(v) && !v.is_generator()),
    KVASS_TEST("callable", v.is_undefined() || (v.is_object() && v.object()->callable())),
    KVASS_TEST("escaped", false),
    KVASS_TEST("odd", remainder(v, 2) != 0),
    KVASS_TEST("even", remainder(v, 2) == 0),
    KVASS_TEST("divisibleby", remainder(v, operand(a).is_int() ? operand(a).integer() : 0) == 0),
    KVASS_TEST("lower", has_case(v, false)),
    KVASS_TEST("upper", has_case(v, true)),
    KVASS_TEST("in", contains(operand(a), v)),
    KVASS_TEST("sameas", v.same_as(operand(a))),
    KVASS_TEST("eq", equal(v, operand(a))),
    KVASS_TEST("equalto", equal(v, operand(a))),
    KVASS_TEST("==", equal(v, operand(a))),
    KVASS_TEST("ne", !equal(v, operand(a))),
    KVASS_TEST("!=", !equal(v, operand(a))),
    KVASS_TEST("lt", less(v, operand(a))),
    KVASS_TEST("lessthan", less(v, operand(a))),
    KVASS_TEST("<", less(v, operand(a))),
    KVASS_TEST("le", !less(operand(a), v)),
    KVASS_TEST("<=", !less(operand(a), v)),
    KVASS_TEST("gt", less(operand(a), v)),
    KVASS_TEST("greaterthan", less(operand(a), v)),
    KVASS_TEST(">", less(operand(a), v)),
    KVASS_TEST("ge", !less(v, operand(a))),
    KVASS_TEST(">=", !less(v, operand(a))),
    KVASS_TEST("filter", v.is_string() && find_filter(v.string()) != nullptr),
    KVASS_TEST("test", v.is_string() && find_test(v.string()) != nullptr),
};
#undef KVASS_TEST

}  // namespace

Test find_test(std::string_view name) {
  for (const Row& row : kTests) {
    if (row.name == name) return row.test;
  }
  return nullptr;
}

}  // namespace kvass::jinja
