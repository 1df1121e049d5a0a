// The part `greedy` follows from `head`, and goes again without a trace.
#include "program/greedy.h"

#include <gtest/gtest.h>

#include "program/builder.h"

namespace kvass {
namespace {

Program decoder(bool capped) {
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", 100, 32);
  const WeightId norm = builder.vector("norm", 32);
  builder.begin_part("body");
  const ValueId x = builder.embed(table, 1.0f);
  builder.set_hidden(x);
  builder.begin_part("head");
  const ValueId logits = builder.linear("logits", builder.rms_norm("norm", builder.select_rows(x), norm, 1e-6f), table);
  builder.set_logits(capped ? builder.softcap(logits, 30.0f) : logits);
  return std::move(builder).finish();
}

const Op& last_op(const Program& program) { return program.ops.back(); }

TEST(Greedy, EndsInTheLinearOfTheLogitsWhereTheHeadDoes) {
  const Program program = decoder(false);
  EXPECT_EQ(verify_program(program).message(), "");
  EXPECT_EQ(last_op(program).kind, OpKind::argmax_linear);
  EXPECT_EQ(last_op(program).outputs[0], program.argmax());
  EXPECT_EQ(last_op(program).weights[0], program.head_weight());
}

TEST(Greedy, TakesTheArgmaxOfAllLogitsWhereMoreFollowsTheLinear) {
  const Program program = decoder(true);
  EXPECT_EQ(verify_program(program).message(), "");
  EXPECT_EQ(last_op(program).kind, OpKind::argmax);
  EXPECT_NE(last_op(program).inputs[0], program.logits);  // values of its own
}

TEST(Greedy, GoesAgainWithoutATrace) {
  for (const bool capped : {false, true}) {
    const Program whole = decoder(capped);
    Program program = without_greedy(whole);
    EXPECT_EQ(verify_program(program).message(), "");
    EXPECT_EQ(program.argmax(), kNone);
    EXPECT_EQ(program.find_part("greedy"), nullptr);
    EXPECT_EQ(program.parts.size(), 2u);
    EXPECT_EQ(static_cast<size_t>(program.logits) + 1, program.values.size());
    add_greedy(program);
    EXPECT_EQ(print_program(program), print_program(whole));
    add_greedy(program);  // it has one
    EXPECT_EQ(print_program(program), print_program(whole));
  }
}

TEST(Greedy, OneThatDoesNotGiveTheArgmaxOfTheLogitsIsRefused) {
  const auto refused = [](auto&& change) {
    Program program = decoder(false);
    change(program);
    return !verify_program(program).ok();
  };
  EXPECT_FALSE(refused([](Program&) {}));
  EXPECT_TRUE(refused([](Program& p) { p.ops.pop_back(), --p.parts.back().end; }));
  EXPECT_TRUE(refused([](Program& p) {
    p.weights.push_back({"other", 90, 32});
    p.ops.back().weights[0] = 2;
  }));
  EXPECT_TRUE(refused([](Program& p) { p.values[static_cast<size_t>(p.argmax())].width = 5; }));
  EXPECT_TRUE(refused([](Program& p) { p.parts.back().begin = p.parts.back().end = p.parts[1].end; }));
}

}  // namespace
}  // namespace kvass
