// Runs a parsed template once: scopes, output, limits. A rendering makes one, uses it and throws it away, under a
// Budget (budget.h). Throws Failure (value.h) with the line and column of what failed.
#pragma once

#include <cstddef>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/jinja.h"
#include "text/jinja/value.h"

namespace kvass::jinja {

// The names of one block, macro or loop iteration. What is not here is looked for outside.
struct Scope {
  std::shared_ptr<Scope> outer;
  std::map<std::string, Value, std::less<>> names;
};

class Interpreter {
 public:
  Interpreter(const Dict& variables, const RenderOptions& options);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  Text run(const Body& body);

  // For builtins.
  Value call(const Value& function, Arguments& arguments);
  Value attribute(const Value& value, std::string_view name);  // value.name
  Value item(const Value& value, const Value& key);            // value[key]
  Value filter(std::string_view name, const Value& input, Arguments& arguments);
  bool test(std::string_view name, const Value& input, Arguments& arguments);
  Value arithmetic(std::string_view op, const Value& a, const Value& b);
  // Objects may point at each other in circles: those handed in here are emptied at the end.
  void keep(std::shared_ptr<Object> object);
  const std::tm& now() const { return options_.now; }

 private:
  friend struct Macro;
  friend struct LoopObject;
  enum class Flow : uint8_t { normal, break_loop, continue_loop };

  // Counts what runs inside what, since templates recurse as deep as their data.
  class Nesting {
   public:
    explicit Nesting(Interpreter& interpreter) : interpreter_(interpreter) {
      if (interpreter.depth_ >= interpreter.options_.most_depth) {
        fail("nested deeper than " + std::to_string(interpreter.options_.most_depth) + " while it runs");
      }
      ++interpreter.depth_;
    }
    ~Nesting() { --interpreter_.depth_; }

   private:
    Interpreter& interpreter_;
  };

  Flow execute(const Body& body);
  Flow execute(const Statement& statement);
  Flow run_loop(const Statement& statement, const Value& over, int depth);
  Text capture(const Body& body);  // what it prints, in a scope of its own
  void assign(const Target& target, const Value& value);
  Value make_macro(const Statement& statement);
  void print(const Value& value);

  Value evaluate(const Expr& expr);
  Value evaluate_inner(const Expr& expr);
  Value slice(const Expr& expr);
  Value compare(const Expr& expr);
  Value name(const Expr& expr);
  Arguments arguments(const Expr& expr, size_t first);
  void define(const std::string& name, Value value);  // in the innermost scope

  const RenderOptions& options_;
  std::shared_ptr<Scope> scope_;
  Text output_;
  std::vector<std::shared_ptr<Object>> kept_;
  std::vector<std::shared_ptr<Scope>> closures_;  // scopes that macros were made in
  int depth_ = 0;
};

}  // namespace kvass::jinja
