// A parsed template: expressions and statements as trees of a few kinds. Immutable once parsed; a Template owns it and
// macros of a rendering point into it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace kvass::jinja {

struct Expr;
using ExprRef = std::unique_ptr<Expr>;

// name=value of a call; the name is `**` for a dict of them.
using NamedExprs = std::vector<std::pair<std::string, ExprRef>>;

struct Expr {
  enum class Kind : uint8_t {
    constant,    // value
    name,        // text
    list,        // parts
    tuple,       // parts
    dict,        // parts: key, value, key, value
    attribute,   // parts[0].text
    item,        // parts[0][parts[1]]
    slice,       // parts[0][parts[1]:parts[2]:parts[3]], each but the first may be null
    call,        // parts[0](parts[1:], named)
    filter,      // parts[0] | text(parts[1:], named); parts[0] is null in a filter block
    test,        // parts[0] is text(parts[1:], named)
    condition,   // parts[0] if parts[1] else parts[2]; the last may be null
    both,        // parts[0] and parts[1]
    either,      // parts[0] or parts[1]
    negation,    // not parts[0]
    compare,     // parts[0] op parts[1] op parts[2] …; ops
    arithmetic,  // parts[0] text parts[1]
    sign,        // text parts[0]
    concat,      // parts[0] ~ parts[1] …
    spread,      // *parts[0], of a call
  };
  Kind kind = Kind::constant;
  int line = 0;
  int column = 0;
  std::string text;
  Value value;
  std::vector<ExprRef> parts;
  std::vector<std::string> ops;
  NamedExprs named;
  int depth = 1;  // of expressions in one another, this one counted
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

// What a `set`, a `for` or a `with` assigns to: a name, a namespace's field (text.field), or several of them.
struct Target {
  std::string name;
  std::string field;  // empty: the name itself
  std::vector<Target> parts;
};

struct Parameter {
  std::string name;
  ExprRef fallback;  // null: none
};

struct Statement {
  enum class Kind : uint8_t {
    text,        // text
    print,       // expr
    condition,   // if/elif/else: branches
    loop,        // for target in expr if test: body, else otherwise
    assign,      // set target = expr
    capture,     // set target | expr: body
    macro,       // name, parameters, body
    call_block,  // call(parameters) expr: body
    filter,      // filter expr: body
    with,        // with assignments: body
    group,       // body, nothing else: generation, autoescape, block
    break_loop,
    continue_loop,
  };
  Kind kind = Kind::text;
  int line = 0;
  int column = 0;
  std::string name;
  Value text;
  ExprRef expr;
  ExprRef test;  // of a loop
  bool recursive = false;
  Target target;
  Body body;
  Body otherwise;
  std::vector<std::pair<ExprRef, Body>> branches;  // condition; the `else` is `otherwise`
  std::vector<Parameter> parameters;
  bool takes_varargs = false;  // the body of a macro names `varargs`, `kwargs`, `caller`
  bool takes_kwargs = false;
  bool takes_caller = false;
  std::vector<std::pair<Target, ExprRef>> assignments;
};

}  // namespace kvass::jinja
