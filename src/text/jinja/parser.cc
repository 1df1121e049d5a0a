#include "text/jinja/parser.h"

#include <algorithm>
#include <set>

#include "text/jinja/expression_parser.h"

namespace kvass::jinja {
namespace {

class Parser : private ExpressionParser {
 public:
  explicit Parser(std::string_view source) : ExpressionParser(source) {}

  Body run() {
    Body body = statements({});
    if (now().kind != Token::Kind::end) error("unexpected tag");
    return body;
  }

 private:
  bool at_tag(Names names) const {
    if (now().kind != Kind::block_begin) return false;
    return std::any_of(names.begin(), names.end(), [&](std::string_view name) { return peek().is_name(name); });
  }

  // Up to a tag of one of these names, which is not taken, or the end.
  Body statements(Names until) {
    Nested nested(*this);
    Body body;
    for (;;) {
      const Token token = now();
      if (token.kind == Kind::end || at_tag(until)) return body;
      auto statement = std::make_unique<Statement>();
      statement->line = token.line;
      statement->column = token.column;
      if (token.kind == Kind::data) {
        statement->text = Value(std::string_view(take().text));
      } else if (token.kind == Kind::variable_begin) {
        take();
        statement->kind = Statement::Kind::print;
        statement->expr = tuple_or_expression();
        expect(Kind::variable_end, "'}}'");
      } else {
        take();
        tag(*statement);
      }
      body.push_back(std::move(statement));
    }
  }

  // The body up to one of the tags, whose name is left as the current token.
  Body block(Names until, std::string_view tag) {
    Body body = statements(until);
    if (now().kind == Kind::end) error("'" + std::string(tag) + "' has no end");
    take();
    return body;
  }
  Body whole_block(std::string_view end, std::string_view tag, bool soft) {
    const bool outer = soft_;
    soft_ = soft;
    Body body = block({end}, tag);
    soft_ = outer;
    take();
    return body;
  }

  void tag(Statement& to) {
    const std::string name = expect_name();
    if (name == "if") return condition(to);
    if (name == "for") return loop(to);
    if (name == "set") return assign(to);
    if (name == "macro") return macro(to);
    if (name == "call") return call_block(to);
    if (name == "filter") {
      to.kind = Statement::Kind::filter;
      to.expr = filters(nullptr, true);
      end_tag();
      to.body = whole_block("endfilter", name, false);
      return end_tag();
    }
    if (name == "with") return with(to);
    if (name == "generation" || name == "autoescape" || name == "block") {
      to.kind = Statement::Kind::group;
      if (name == "autoescape") expression();
      if (name == "block") expect_name();
      end_tag();
      to.body = whole_block("end" + name, name, false);
      if (name == "block" && now().kind == Kind::name) take();
      return end_tag();
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) error("'" + name + "' outside of a loop");
      to.kind = name == "break" ? Statement::Kind::break_loop : Statement::Kind::continue_loop;
      return end_tag();
    }
    --at_;
    error("unknown tag '" + name + "'");
  }

  void condition(Statement& to) {
    to.kind = Statement::Kind::condition;
    const bool outer = soft_;
    for (;;) {
      ExprRef test = tuple_or_expression(/*with_condition=*/false);
      end_tag();
      soft_ = true;
      Body body = block({"elif", "else", "endif"}, "if");
      to.branches.emplace_back(std::move(test), std::move(body));
      const std::string next = take().text;
      if (next == "elif") {
        soft_ = outer;
        continue;
      }
      if (next == "else") {
        end_tag();
        to.otherwise = block({"endif"}, "if");
        take();
      }
      soft_ = outer;
      return end_tag();
    }
  }

  void loop(Statement& to) {
    to.kind = Statement::Kind::loop;
    to.target = target(/*fields=*/false);
    if (!skip_name("in")) error("expected 'in', got " + shown(now()));
    to.expr = tuple_or_expression(/*with_condition=*/false);
    if (skip_name("if")) to.test = expression();
    to.recursive = skip_name("recursive");
    end_tag();
    const bool outer = soft_;
    soft_ = false;
    ++loops_;
    to.body = block({"endfor", "else"}, "for");
    --loops_;
    if (take().text == "else") {
      end_tag();
      to.otherwise = block({"endfor"}, "for");
      take();
    }
    soft_ = outer;
    end_tag();
  }

  void assign(Statement& to) {
    to.target = target(/*fields=*/true);
    if (skip_op("=")) {
      to.kind = Statement::Kind::assign;
      to.expr = tuple_or_expression();
      return end_tag();
    }
    to.kind = Statement::Kind::capture;
    if (now().is_op("|")) to.expr = filters(nullptr, false);
    end_tag();
    to.body = whole_block("endset", "set", false);
    end_tag();
  }

  void signature(Statement& to) {
    expect_op("(");
    while (!now().is_op(")")) {
      if (!to.parameters.empty()) expect_op(",");
      Parameter parameter{expect_name(), nullptr};
      if (skip_op("=")) {
        parameter.fallback = expression();
      } else if (!to.parameters.empty() && to.parameters.back().fallback) {
        error("a parameter without a default after one with a default");
      }
      to.parameters.push_back(std::move(parameter));
    }
    take();
  }

  // The body of a macro or a call: loops outside of it are none of its own.
  Body macro_body(Statement& to, std::string_view end, std::string_view tag) {
    const int loops = std::exchange(loops_, 0);
    const size_t begin = at_;
    Body body = whole_block(end, tag, false);
    loops_ = loops;
    for (size_t i = begin; i < at_; ++i) {
      if (tokens_[i].is_name("varargs")) to.takes_varargs = true;
      if (tokens_[i].is_name("kwargs")) to.takes_kwargs = true;
      if (tokens_[i].is_name("caller")) to.takes_caller = true;
    }
    return body;
  }

  void macro(Statement& to) {
    to.kind = Statement::Kind::macro;
    to.name = expect_name();
    signature(to);
    end_tag();
    to.body = macro_body(to, "endmacro", "macro");
    if (now().kind == Kind::name) take();
    end_tag();
  }

  void call_block(Statement& to) {
    to.kind = Statement::Kind::call_block;
    to.name = "caller";
    if (now().is_op("(")) signature(to);
    to.expr = expression();
    if (to.expr->kind != Expr::Kind::call) error("expected a call");
    end_tag();
    to.body = macro_body(to, "endcall", "call");
    end_tag();
  }

  void with(Statement& to) {
    to.kind = Statement::Kind::with;
    while (now().kind != Kind::block_end) {
      if (!to.assignments.empty()) expect_op(",");
      Target name = target(/*fields=*/false);
      expect_op("=");
      to.assignments.emplace_back(std::move(name), expression());
    }
    end_tag();
    to.body = whole_block("endwith", "with", false);
    end_tag();
  }

  Target one_target(bool fields) {
    Nested nested(*this);
    if (skip_op("(")) {
      Target list = target(fields);
      expect_op(")");
      return list;
    }
    Target one;
    one.name = expect_name();
    static const std::set<std::string_view> kReserved = {"true", "false", "none", "True", "False", "None"};
    if (kReserved.count(one.name)) error("cannot assign to '" + one.name + "'");
    if (fields && skip_op(".")) one.field = expect_name();
    return one;
  }
  Target target(bool fields) {
    Target first = one_target(fields);
    if (!now().is_op(",")) return first;
    Target list;
    list.parts.push_back(std::move(first));
    while (skip_op(",")) {
      if (now().is_op(")") || now().is_name("in")) break;
      list.parts.push_back(one_target(fields));
    }
    return list;
  }
};

}  // namespace

Body parse(std::string_view source) { return Parser(source).run(); }

}  // namespace kvass::jinja
