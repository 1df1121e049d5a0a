// Expressions of a template, from tokens to trees, and the position in the tokens that statements share. The base of
// the parser of statements (parser.cc).
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace kvass::jinja {

class ExpressionParser {
 protected:
  explicit ExpressionParser(std::string_view source) : tokens_(tokenize(source)) {}

  static constexpr int kMostNesting = 150;  // of expressions and statements in one another
  static constexpr int kMostDepth = 1000;   // of a tree, which chains of operators make deep without nesting

  using Kind = Token::Kind;
  using Names = std::initializer_list<std::string_view>;

  class Nested {
   public:
    explicit Nested(ExpressionParser& parser) : parser_(parser) {
      if (++parser.nesting_ > kMostNesting) parser.error("nested deeper than " + std::to_string(kMostNesting));
    }
    ~Nested() { --parser_.nesting_; }

   private:
    ExpressionParser& parser_;
  };

  const Token& now() const { return tokens_[at_]; }
  const Token& peek() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  [[noreturn]] void error(std::string message) const { throw Failure{std::move(message), now().line, now().column}; }
  bool skip_op(std::string_view op) {
    if (!now().is_op(op)) return false;
    take();
    return true;
  }
  bool skip_name(std::string_view name) {
    if (!now().is_name(name)) return false;
    take();
    return true;
  }
  static std::string shown(const Token& token) {
    switch (token.kind) {
      case Kind::end:
        return "the end of the template";
      case Kind::block_end:
        return "the end of the tag";
      case Kind::variable_end:
        return "'}}'";
      default:
        return "'" + token.text + "'";
    }
  }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) error("expected '" + std::string(op) + "', got " + shown(now()));
  }
  std::string expect_name() {
    if (now().kind != Kind::name) error("expected a name, got " + shown(now()));
    return take().text;
  }
  void expect(Kind kind, std::string_view what) {
    if (now().kind != kind) error("expected " + std::string(what) + ", got " + shown(now()));
    take();
  }
  void end_tag() { expect(Kind::block_end, "the end of the tag"); }

  ExprRef make(Expr::Kind kind, const Token& at) const {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = at.line;
    expr->column = at.column;
    return expr;
  }
  template <class... Parts>
  ExprRef make(Expr::Kind kind, const Token& at, Parts... parts) const {
    ExprRef expr = make(kind, at);
    (add(*expr, std::move(parts)), ...);
    return expr;
  }
  // Every part of an expression comes to it here.
  void add(Expr& to, ExprRef part) const {
    deepen(to, part);
    to.parts.push_back(std::move(part));
  }
  void add_named(Expr& to, std::string name, ExprRef part) const {
    deepen(to, part);
    to.named.emplace_back(std::move(name), std::move(part));
  }
  void deepen(Expr& to, const ExprRef& part) const {
    if (part) to.depth = std::max(to.depth, part->depth + 1);
    if (to.depth > kMostDepth) error("nested deeper than " + std::to_string(kMostDepth));
  }

  // a, b, … is a tuple.
  ExprRef tuple_or_expression(bool with_condition = true);
  ExprRef expression();
  // `| name(arguments)` as often as it comes; `begun`: the first comes without the bar, as in a filter block.
  ExprRef filters(ExprRef value, bool begun);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  int loops_ = 0;      // around the current tag
  bool soft_ = false;  // in a branch: an unknown filter or test is an error only where it runs

 private:
  // From the loosest to the tightest.
  bool ends_tuple() const;
  ExprRef either();
  ExprRef both();
  ExprRef negation();
  std::string compare_op();
  ExprRef compare();
  ExprRef sum();
  ExprRef concat();
  ExprRef product();
  ExprRef power();
  ExprRef unary(bool with_filters);
  ExprRef primary();
  ExprRef constant(const Token& at, Value value) const;
  Value integer(const std::string& text) const;
  ExprRef parenthesised();
  ExprRef list();
  ExprRef dict();
  ExprRef postfix(ExprRef value);
  ExprRef subscript(ExprRef value);
  void arguments(Expr& to);
  ExprRef call(ExprRef function);
  ExprRef filter_chain(ExprRef value);
  std::string dotted_name();
  ExprRef test(ExprRef value);
  template <class Next>
  ExprRef left_to_right(std::initializer_list<std::string_view> ops, Next&& next);
};

}  // namespace kvass::jinja
