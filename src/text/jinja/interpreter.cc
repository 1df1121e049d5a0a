#include "text/jinja/interpreter.h"

#include <algorithm>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/objects.h"

namespace kvass::jinja {

Interpreter::Interpreter(const Dict& variables, const RenderOptions& options)
    : options_(options), scope_(std::make_shared<Scope>()) {
  for (const auto& [name, value] : variables.items) scope_->names[std::string(name.string())] = value;
  scope_ = scope_in(scope_);
}

Interpreter::~Interpreter() {
  // Macros hold the scopes that hold them, and namespaces each other.
  for (const std::shared_ptr<Scope>& scope : closures_) scope->names.clear();
  for (const std::shared_ptr<Object>& object : kept_) object->release();
}

Text Interpreter::run(const Body& body) {
  execute(body);
  return std::move(output_);
}

void Interpreter::keep(std::shared_ptr<Object> object) {
  constexpr size_t kObject = 128;  // bytes, about
  Budget::bytes(kObject);
  kept_.push_back(std::move(object));
}

void Interpreter::define(const std::string& name, Value value) {
  constexpr size_t kNode = 96;  // bytes of an entry, about
  Budget::work(2 * kStep);
  Budget::bytes(kNode + name.size());
  scope_->names[name] = std::move(value);
}

void Interpreter::print(const Value& value) {
  const auto add = [&](const Text& text) {
    if (text.size() > options_.most_output - output_.size()) {
      fail("the template printed more than " + std::to_string(options_.most_output) + " bytes");
    }
    output_.append(text);
  };
  value.is_string() ? add(value.text()) : add(value.str());
}

Text Interpreter::capture(const Body& body) {
  const Restore<std::shared_ptr<Scope>> scope(scope_, scope_in(scope_));
  const Restore<Text> output(output_, Text());
  execute(body);
  return std::move(output_);
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  for (const std::unique_ptr<Statement>& statement : body) {
    const Flow flow = execute(*statement);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::execute(const Statement& statement) {
  const Nesting nesting(*this);
  Budget::work(kStep);
  switch (statement.kind) {
    case Statement::Kind::text:
      print(statement.text);
      break;
    case Statement::Kind::print:
      print(evaluate(*statement.expr));
      break;
    case Statement::Kind::condition:
      for (const auto& [test, body] : statement.branches) {
        if (evaluate(*test).truth()) return execute(body);
      }
      return execute(statement.otherwise);
    case Statement::Kind::loop:
      return run_loop(statement, evaluate(*statement.expr), 0);
    case Statement::Kind::assign:
      assign(statement.target, evaluate(*statement.expr));
      break;
    case Statement::Kind::capture:
    case Statement::Kind::filter: {
      Value text(capture(statement.body));
      if (statement.expr) {
        const Restore<std::shared_ptr<Scope>> scope(scope_, scope_in(scope_));
        define({}, text);  // what the innermost filter of the chain applies to
        text = evaluate(*statement.expr);
      }
      if (statement.kind == Statement::Kind::filter) {
        print(text);
      } else {
        assign(statement.target, text);
      }
      break;
    }
    case Statement::Kind::macro:
      define(statement.name, make_macro(statement));
      break;
    case Statement::Kind::call_block: {
      const Expr& call_expr = *statement.expr;
      const Value function = evaluate(*call_expr.parts[0]);
      Arguments values = arguments(call_expr, 1);
      values.named.emplace_back("caller", make_macro(statement));
      print(call(function, values));
      break;
    }
    case Statement::Kind::with: {
      std::vector<Value> values;
      for (const auto& [target, expr] : statement.assignments) values.push_back(evaluate(*expr));
      const Restore<std::shared_ptr<Scope>> scope(scope_, scope_in(scope_));
      for (size_t i = 0; i < values.size(); ++i) assign(statement.assignments[i].first, values[i]);
      return execute(statement.body);
    }
    case Statement::Kind::group: {
      const Restore<std::shared_ptr<Scope>> scope(scope_, scope_in(scope_));
      return execute(statement.body);
    }
    case Statement::Kind::break_loop:
      return Flow::break_loop;
    case Statement::Kind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::normal;
}

Value Interpreter::make_macro(const Statement& statement) {
  constexpr size_t kMacro = 256;  // bytes with its scope, about
  Budget::work(2 * kStep);
  Budget::bytes(kMacro);
  if (closures_.empty() || closures_.back() != scope_) closures_.push_back(scope_);
  return Value(std::shared_ptr<Object>(std::make_shared<Macro>(statement, scope_)));
}

Interpreter::Flow Interpreter::run_loop(const Statement& statement, const Value& over, int depth) {
  const Nesting nesting(*this);
  std::vector<Value> items = iterate(over);
  if (statement.test) {
    std::vector<Value> wanted;
    for (Value& item : items) {
      const Restore<std::shared_ptr<Scope>> scope(scope_, scope_in(scope_));
      assign(statement.target, item);
      if (evaluate(*statement.test).truth()) wanted.push_back(std::move(item));
    }
    items = std::move(wanted);
  }
  auto loop = std::make_shared<LoopObject>(std::move(items), depth, statement);
  loop->scope = scope_;
  keep(loop);  // its methods point to it
  for (; loop->at < loop->items.size(); ++loop->at) {
    Budget::work(2 * kStep);
    const Restore<std::shared_ptr<Scope>> scope(scope_, scope_in(scope_));
    define("loop", Value(std::shared_ptr<Object>(loop)));
    assign(statement.target, loop->items[loop->at]);
    if (execute(statement.body) == Flow::break_loop) return Flow::normal;
  }
  if (!loop->items.empty()) return Flow::normal;
  const Restore<std::shared_ptr<Scope>> scope(scope_, scope_in(scope_));
  return execute(statement.otherwise);
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (!target.parts.empty()) {
    const std::vector<Value> values = iterate(value);
    if (values.size() != target.parts.size()) {
      fail("expected " + std::to_string(target.parts.size()) + " values to unpack, got " +
           std::to_string(values.size()));
    }
    for (size_t i = 0; i < values.size(); ++i) assign(target.parts[i], values[i]);
    return;
  }
  if (target.field.empty()) {
    return define(target.name, value);
  }
  for (const Scope* scope = scope_.get(); scope; scope = scope->outer.get()) {
    Budget::work(4 + target.name.size() / 8);
    const auto at = scope->names.find(target.name);
    if (at == scope->names.end()) continue;
    auto* space = at->second.is_object() ? dynamic_cast<Namespace*>(at->second.object().get()) : nullptr;
    if (!space) fail("cannot assign attribute on non-namespace object");
    return space->values.set(Value(std::string_view(target.field)), value);
  }
  fail("'" + target.name + "' is undefined");
}

}  // namespace kvass::jinja
