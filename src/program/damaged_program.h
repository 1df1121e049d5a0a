// Programs that are made wrong in one place, for the verifier's tests.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "program/program.h"

namespace kvass::testing {

inline Op& find_op(Program& program, OpKind kind) {
  for (Op& op : program.ops) {
    if (op.kind == kind) return op;
  }
  ADD_FAILURE() << "no op of kind " << op_kind_name(kind);
  return program.ops[0];
}

// The message of the refusal of what `damage` makes of a program; empty where it was accepted.
inline std::string refusal(Program program, const std::function<void(Program&)>& damage) {
  damage(program);
  return verify_program(program).message();
}

}  // namespace kvass::testing

// `p`, in the damage, is the program.
#define EXPECT_REFUSED_OF(program, words, damage)                                             \
  do {                                                                                        \
    const std::string message = kvass::testing::refusal(program, [](Program& p) { damage; }); \
    EXPECT_NE(message.find(words), std::string::npos) << "'" << message << "' for " #damage;  \
    EXPECT_NE(message, "") << #damage;                                                        \
  } while (0)
