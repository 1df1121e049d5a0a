#include "text/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>

#include "text/jinja/builtins.h"

namespace kvass::jinja {

ExprRef ExpressionParser::tuple_or_expression(bool with_condition) {
  const Token at = now();
  ExprRef first = with_condition ? expression() : either();
  if (!now().is_op(",")) return first;
  ExprRef list = make(Expr::Kind::tuple, at, std::move(first));
  while (skip_op(",")) {
    if (ends_tuple()) break;
    add(*list, with_condition ? expression() : either());
  }
  return list;
}
bool ExpressionParser::ends_tuple() const {
  return now().kind == Kind::variable_end || now().kind == Kind::block_end || now().is_op(")") || now().is_name("in");
}

ExprRef ExpressionParser::expression() {
  Nested nested(*this);
  ExprRef value = either();
  while (now().is_name("if")) {
    const Token at = take();
    const bool outer = std::exchange(soft_, true);
    ExprRef test = either();
    ExprRef otherwise;
    if (skip_name("else")) otherwise = expression();
    soft_ = outer;
    value = make(Expr::Kind::condition, at, std::move(value), std::move(test), std::move(otherwise));
  }
  return value;
}

ExprRef ExpressionParser::either() {
  ExprRef left = both();
  while (now().is_name("or")) {
    const Token at = take();
    left = make(Expr::Kind::either, at, std::move(left), both());
  }
  return left;
}

ExprRef ExpressionParser::both() {
  ExprRef left = negation();
  while (now().is_name("and")) {
    const Token at = take();
    left = make(Expr::Kind::both, at, std::move(left), negation());
  }
  return left;
}

ExprRef ExpressionParser::negation() {
  if (!now().is_name("not")) return compare();
  Nested nested(*this);
  const Token at = take();
  return make(Expr::Kind::negation, at, negation());
}

std::string ExpressionParser::compare_op() {
  for (std::string_view op : {"==", "!=", "<", "<=", ">", ">="}) {
    if (skip_op(op)) return std::string(op);
  }
  if (skip_name("in")) return "in";
  if (now().is_name("not") && peek().is_name("in")) {
    take();
    take();
    return "not in";
  }
  return "";
}

ExprRef ExpressionParser::compare() {
  const Token at = now();
  ExprRef first = sum();
  std::string op = compare_op();
  if (op.empty()) return first;
  ExprRef chain = make(Expr::Kind::compare, at, std::move(first));
  for (; !op.empty(); op = compare_op()) {
    chain->ops.push_back(op);
    add(*chain, sum());
  }
  return chain;
}

template <class Next>
ExprRef ExpressionParser::left_to_right(std::initializer_list<std::string_view> ops, Next&& next) {
  ExprRef left = next();
  for (;;) {
    const Token at = now();
    const bool found = std::any_of(ops.begin(), ops.end(), [&](std::string_view op) { return at.is_op(op); });
    if (!found) return left;
    take();
    left = make(Expr::Kind::arithmetic, at, std::move(left), next());
    left->text = at.text;
  }
}
ExprRef ExpressionParser::sum() {
  return left_to_right({"+", "-"}, [&] { return concat(); });
}
ExprRef ExpressionParser::concat() {
  const Token at = now();
  ExprRef first = product();
  if (!now().is_op("~")) return first;
  ExprRef parts = make(Expr::Kind::concat, at, std::move(first));
  while (skip_op("~")) add(*parts, product());
  return parts;
}
ExprRef ExpressionParser::product() {
  return left_to_right({"*", "/", "//", "%"}, [&] { return power(); });
}
ExprRef ExpressionParser::power() {
  return left_to_right({"**"}, [&] { return unary(true); });
}

ExprRef ExpressionParser::unary(bool with_filters) {
  Nested nested(*this);
  const Token at = now();
  ExprRef value;
  if (at.is_op("-") || at.is_op("+")) {
    take();
    value = make(Expr::Kind::sign, at, unary(false));
    value->text = at.text;
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filters ? filter_chain(std::move(value)) : std::move(value);
}

ExprRef ExpressionParser::primary() {
  const Token at = now();
  switch (at.kind) {
    case Kind::name:
      take();
      if (at.text == "true" || at.text == "True") return constant(at, Value(true));
      if (at.text == "false" || at.text == "False") return constant(at, Value(false));
      if (at.text == "none" || at.text == "None") return constant(at, Value(None{}));
      {
        ExprRef name = make(Expr::Kind::name, at);
        name->text = at.text;
        return name;
      }
    case Kind::string: {
      std::string text;
      while (now().kind == Kind::string) text += take().text;
      return constant(at, Value(std::string_view(text)));
    }
    case Kind::integer:
      return constant(at, integer(take().text));
    case Kind::real: {
      const std::string text = take().text;
      double value = 0.0;
      std::from_chars(text.data(), text.data() + text.size(), value);
      return constant(at, Value(value));
    }
    default:
      break;
  }
  if (at.is_op("(")) return parenthesised();
  if (at.is_op("[")) return list();
  if (at.is_op("{")) return dict();
  error("expected an expression, got " + shown(at));
}

ExprRef ExpressionParser::constant(const Token& at, Value value) const {
  ExprRef expr = make(Expr::Kind::constant, at);
  expr->value = std::move(value);
  return expr;
}

Value ExpressionParser::integer(const std::string& text) const {
  const char marker = text.size() > 1 ? text[1] : '0';
  const int base = marker == 'x' || marker == 'X'   ? 16
                   : marker == 'o' || marker == 'O' ? 8
                   : marker == 'b' || marker == 'B' ? 2
                                                    : 10;
  const char* begin = text.data() + (base == 10 ? 0 : 2);
  const char* end = text.data() + text.size();
  int64_t value = 0;
  const auto [at, code] = std::from_chars(begin, end, value, base);
  if (code != std::errc() || at != end) error("expected an integer of 64 bits, got '" + text + "'");
  return Value(value);
}

ExprRef ExpressionParser::parenthesised() {
  const Token at = take();
  if (skip_op(")")) return make(Expr::Kind::tuple, at);
  ExprRef value = tuple_or_expression();
  expect_op(")");
  return value;
}

ExprRef ExpressionParser::list() {
  ExprRef list = make(Expr::Kind::list, take());
  while (!now().is_op("]")) {
    if (!list->parts.empty()) expect_op(",");
    if (now().is_op("]")) break;
    add(*list, expression());
  }
  take();
  return list;
}

ExprRef ExpressionParser::dict() {
  ExprRef dict = make(Expr::Kind::dict, take());
  while (!now().is_op("}")) {
    if (!dict->parts.empty()) expect_op(",");
    if (now().is_op("}")) break;
    add(*dict, expression());
    expect_op(":");
    add(*dict, expression());
  }
  take();
  return dict;
}

ExprRef ExpressionParser::postfix(ExprRef value) {
  for (;;) {
    const Token at = now();
    if (at.is_op(".")) {
      take();
      if (now().kind == Kind::integer) {
        ExprRef index = constant(now(), integer(now().text));
        take();
        value = make(Expr::Kind::item, at, std::move(value), std::move(index));
      } else {
        value = make(Expr::Kind::attribute, at, std::move(value));
        value->text = expect_name();
      }
    } else if (at.is_op("[")) {
      value = subscript(std::move(value));
    } else if (at.is_op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExprRef ExpressionParser::subscript(ExprRef value) {
  const Token at = take();
  ExprRef parts[3];
  size_t colons = 0;
  bool tuple = false;
  ExprRef items = make(Expr::Kind::tuple, at);
  while (!now().is_op("]")) {
    if (skip_op(":")) {
      if (++colons > 2) error("expected ']', got ':'");
    } else if (colons == 0 && skip_op(",")) {
      if (!parts[0]) error("expected an index, got ','");
      add(*items, std::move(parts[0]));
      tuple = true;
    } else {
      if (parts[colons]) error("expected ']', got " + shown(now()));
      parts[colons] = expression();
    }
  }
  take();
  if (tuple) {
    if (colons != 0) error("slices of several dimensions are not supported");
    if (parts[0]) add(*items, std::move(parts[0]));
    return make(Expr::Kind::item, at, std::move(value), std::move(items));
  }
  if (colons != 0) {
    return make(Expr::Kind::slice, at, std::move(value), std::move(parts[0]), std::move(parts[1]), std::move(parts[2]));
  }
  if (!parts[0]) error("expected an index, got ']'");
  return make(Expr::Kind::item, at, std::move(value), std::move(parts[0]));
}

// The arguments of a call, a filter or a test, from the opening parenthesis on.
void ExpressionParser::arguments(Expr& to) {
  expect_op("(");
  bool first = true;
  while (!now().is_op(")")) {
    if (!first) expect_op(",");
    first = false;
    if (now().is_op(")")) break;
    const Token at = now();
    if (skip_op("*")) {
      add(to, make(Expr::Kind::spread, at, expression()));
    } else if (skip_op("**")) {
      add_named(to, "**", expression());
    } else if (at.kind == Kind::name && peek().is_op("=")) {
      take();
      take();
      add_named(to, at.text, expression());
    } else {
      if (!to.named.empty()) error("a positional argument after a named one");
      add(to, expression());
    }
  }
  take();
}

ExprRef ExpressionParser::call(ExprRef function) {
  ExprRef call = make(Expr::Kind::call, now(), std::move(function));
  arguments(*call);
  return call;
}

ExprRef ExpressionParser::filter_chain(ExprRef value) {
  for (;;) {
    if (now().is_op("|")) {
      value = filters(std::move(value), false);
    } else if (now().is_name("is")) {
      value = test(std::move(value));
    } else if (now().is_op("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

std::string ExpressionParser::dotted_name() {
  std::string name = expect_name();
  while (skip_op(".")) name += "." + expect_name();
  return name;
}

ExprRef ExpressionParser::filters(ExprRef value, bool begun) {
  while (begun || skip_op("|")) {
    begun = false;
    const Token at = now();
    ExprRef filter = make(Expr::Kind::filter, at, std::move(value));
    filter->text = dotted_name();
    if (!soft_ && !find_filter(filter->text))
      throw Failure{"no filter named '" + filter->text + "'", at.line, at.column};
    if (now().is_op("(")) arguments(*filter);
    value = std::move(filter);
  }
  return value;
}

ExprRef ExpressionParser::test(ExprRef value) {
  take();
  const bool negated = skip_name("not");
  const Token at = now();
  ExprRef test = make(Expr::Kind::test, at, std::move(value));
  test->text = dotted_name();
  if (!soft_ && !find_test(test->text)) throw Failure{"no test named '" + test->text + "'", at.line, at.column};
  const Token& next = now();
  const bool operand = next.kind == Kind::name || next.kind == Kind::string || next.kind == Kind::integer ||
                       next.kind == Kind::real || next.is_op("[") || next.is_op("{");
  if (next.is_op("(")) {
    arguments(*test);
  } else if (operand && !next.is_name("else") && !next.is_name("or") && !next.is_name("and")) {
    if (next.is_name("is")) error("tests cannot be chained");
    add(*test, postfix(primary()));
  }
  return negated ? make(Expr::Kind::negation, at, std::move(test)) : std::move(test);
}

}  // namespace kvass::jinja
