// The objects that a running template makes: macros, and the `loop` of a for. Both point into the template's tree and
// into scopes of the interpreter that made them, and live no longer than that.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "text/jinja/interpreter.h"

namespace kvass::jinja {

// Sets a variable for a scope, whatever way the scope is left.
template <class T>
class Restore {
 public:
  Restore(T& variable, T value) : variable_(variable), old_(std::exchange(variable, std::move(value))) {}
  ~Restore() { variable_ = std::move(old_); }

 private:
  T& variable_;
  T old_;
};

inline std::shared_ptr<Scope> scope_in(const std::shared_ptr<Scope>& outer) {
  return std::make_shared<Scope>(Scope{outer, {}});
}

// What `macro` and `call` make: their body with parameters, in the scope in which they stand.
struct Macro : Object {
  Macro(const Statement& statement, std::shared_ptr<Scope> scope) : statement(statement), scope(std::move(scope)) {}
  std::string_view type_name() const override { return "Macro"; }
  bool callable() const override { return true; }
  std::optional<Value> attribute(std::string_view name) override {
    if (name == "name") return Value(std::string_view(statement.name));
    return std::nullopt;
  }
  Value call(Interpreter& interpreter, Arguments& arguments) override;

  const Statement& statement;
  std::shared_ptr<Scope> scope;
};

// `loop` inside a for.
struct LoopObject : Object {
  LoopObject(std::vector<Value> items, int depth, const Statement& statement)
      : items(std::move(items)), depth(depth), statement(statement) {}
  std::string_view type_name() const override { return "LoopContext"; }
  bool callable() const override { return statement.recursive; }
  std::optional<Value> attribute(std::string_view name) override;
  Value call(Interpreter& interpreter, Arguments& arguments) override;
  void release() override {
    items = {};
    seen.reset();
    scope.reset();
  }

  std::vector<Value> items;
  size_t at = 0;
  int depth;  // from 0
  const Statement& statement;
  std::shared_ptr<Scope> scope;            // around the for
  std::optional<std::vector<Value>> seen;  // of changed()
};

}  // namespace kvass::jinja
