// Conds in programs: what the builder writes, what the verifier refuses, how it is printed, and how their values lie in
// the arena.
#include <gtest/gtest.h>

#include <array>

#include "plan/arena.h"
#include "program/builder.h"
#include "program/damaged_program.h"

namespace kvass {
namespace {

using testing::find_op;

// A decoder layer over a source of 8 rows of 32, and a cond of plain values beside it: where the cache is there the
// rows pass as they are, elsewhere they go through a matrix. Vocabulary 10.
Program conditional() {
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", 10, 32);
  const std::array kv = {builder.matrix("wk", 32, 32), builder.matrix("wv", 32, 32)};
  const std::array<std::string, 2> names = {"k", "v"};
  const WeightId square = builder.matrix("square", 32, 32);
  builder.encoder(8, 32, 0);
  const CrossId cross = builder.cross_cache("cross 0", 2, 16);
  builder.begin_part("encode");
  builder.store_source(builder.input(32, Extent::source));
  builder.begin_part("body");
  const ValueId x = builder.embed(table, 1.0f);
  const ValueId there = builder.is_initialised(cross);
  const ProgramBuilder::Keys keys = builder.cond(
      "keys", there, [&] { return builder.alias(cross); },
      [&] {
        const auto made = builder.linear("kv", builder.source(), kv, names);
        return builder.update_cross_attn_cache(made[0], made[1], cross);
      });
  const ValueId y = builder.cross_attention(x, keys, 2, 0.25f);
  const ValueId z = builder.cond(
      "either", there, [&] { return y; },
      [&] { return builder.linear("squared", builder.linear("once", y, square), square); });
  builder.set_hidden(builder.add("sum", z, x));
  builder.begin_part("head");
  builder.set_logits(builder.linear("logits", builder.select_rows(z), table));
  return std::move(builder).finish();
}

#define EXPECT_REFUSED(words, damage) EXPECT_REFUSED_OF(conditional(), words, damage)

TEST(Cond, ASoundProgramIsAccepted) {
  EXPECT_EQ(verify_program(conditional()).message(), "");
  const Program program = conditional();
  ASSERT_EQ(program.branches.size(), 4u);
  EXPECT_FALSE(program.one_sequence(program.branches[0]));  // an alias
  EXPECT_TRUE(program.one_sequence(program.branches[1]));   // works on the source
  EXPECT_FALSE(program.one_sequence(program.branches[3]));
}

TEST(Cond, DamagedBranchesAreRefused) {
  EXPECT_REFUSED("branches", find_op(p, OpKind::cond).branches[0] = -1);
  EXPECT_REFUSED("branches", find_op(p, OpKind::cond).branches[1] = 99);
  EXPECT_REFUSED("branches", find_op(p, OpKind::cond).branches[1] = 0);
  EXPECT_REFUSED("branches", p.branches[0].begin += 1);
  EXPECT_REFUSED("branches", p.branches[1].end = 1000);
  EXPECT_REFUSED("branches", p.branches[1].end = -1);
  EXPECT_REFUSED("branches", p.branches.push_back(p.branches[0]));
  EXPECT_REFUSED("arity", find_op(p, OpKind::cond).branches.pop_back());
  EXPECT_REFUSED("branches", find_op(p, OpKind::add).branches = {0});
}

TEST(Cond, ResultsAreWhatTheirOwnBranchWrites) {
  EXPECT_REFUSED("results", p.branches[0].results.pop_back());
  EXPECT_REFUSED("results", p.branches[0].results[0] = -1);
  EXPECT_REFUSED("results", p.branches[0].results[1] = p.branches[0].results[0]);
  EXPECT_REFUSED("results", p.branches[0].results = p.branches[1].results);
  EXPECT_REFUSED("results", std::swap(p.branches[1].results[0], p.branches[1].results[1]));  // v for k
  EXPECT_REFUSED("results", p.branches[3].results[0] = find_op(p, OpKind::embed).outputs[0]);
}

TEST(Cond, ValuesOfABranchEndWithIt) {
  EXPECT_REFUSED("written before", find_op(p, OpKind::add).inputs[0] = p.branches[3].results[0]);
  EXPECT_REFUSED("view", find_op(p, OpKind::add).inputs[0] = find_op(p, OpKind::cond).outputs[0]);
}

TEST(Cond, ViewsAreOfWhatTheySay) {
  EXPECT_REFUSED("view", p.values[static_cast<size_t>(find_op(p, OpKind::alias).outputs[0])].view = View::none);
  EXPECT_REFUSED("view", p.values[static_cast<size_t>(find_op(p, OpKind::alias).outputs[0])].view = View::values);
  EXPECT_REFUSED("view", p.values[static_cast<size_t>(find_op(p, OpKind::embed).outputs[0])].view = View::source);
  EXPECT_REFUSED(
      "view", std::swap(find_op(p, OpKind::cross_attention).inputs[1], find_op(p, OpKind::cross_attention).inputs[2]));
  EXPECT_REFUSED("cross cache", find_op(p, OpKind::cross_attention).cross = 1);
  EXPECT_REFUSED("cross cache", find_op(p, OpKind::is_initialised).cross = kNone);
}

TEST(Cond, SourceRowsStayInTheirPlaces) {
  EXPECT_REFUSED("source", p.source.rows = 0);
  EXPECT_REFUSED("source", p.source.frames = 17);
  EXPECT_REFUSED("width", p.source.width = 16);
  EXPECT_REFUSED("encode", p.parts[0].name = "other");
  EXPECT_REFUSED("head size", p.crosses[0].head_dim = 24);
  EXPECT_REFUSED("heads", find_op(p, OpKind::cross_attention).heads = 3);
}

TEST(Cond, BranchesArePrintedUnderTheirCond) {
  const std::string text = print_program(conditional());
  const size_t cond = text.find("cond "), then = text.find("then", cond), alias = text.find("alias", then),
               otherwise = text.find("else", alias), update = text.find("update_cross_attn_cache", otherwise);
  EXPECT_NE(update, std::string::npos) << text;
  EXPECT_NE(text.find("state cross 0"), std::string::npos);
  EXPECT_NE(text.find("&%"), std::string::npos);  // a view
}

TEST(Cond, ResultsLieWhereTheOutputsDoAndViewsNowhere) {
  const Program program = conditional();
  const std::vector<size_t> workspace(program.ops.size(), 100);
  const RowLimits rows{6, 2, 3};
  const ArenaPlan plan = plan_arena(program, rows, workspace).value();
  EXPECT_EQ(check_arena(program, rows, workspace, plan).message(), "");
  const auto at = [&](ValueId id) { return plan.values[static_cast<size_t>(id)]; };
  ValueId output = kNone;
  for (const Op& op : program.ops) {
    if (op.name == "either") output = op.outputs[0];
  }
  EXPECT_EQ(at(program.branches[2].results[0]), at(output));
  EXPECT_EQ(at(program.branches[3].results[0]), at(output));
  // What a branch reads from outside lives on: another sequence may still take that branch.
  for (const Op& op : program.ops) {
    if (op.name == "squared") {
      EXPECT_NE(at(op.inputs[0]), at(program.ops[static_cast<size_t>(program.branches[2].begin)].inputs[0]));
    }
  }
}

TEST(Cond, PlansThatShareLivingBytesAreFound) {
  const Program program = conditional();
  const std::vector<size_t> workspace(program.ops.size(), 0);
  const RowLimits rows{6, 2, 3};
  const ArenaPlan plan = plan_arena(program, rows, workspace).value();
  size_t refused = 0;
  for (size_t v = 0; v < plan.values.size(); ++v) {
    ArenaPlan damaged = plan;
    damaged.values[v] = plan.bytes;  // outside
    if (program.values[v].view == View::none) {
      EXPECT_FALSE(check_arena(program, rows, workspace, damaged).ok()) << v;
    }
    damaged.values[v] = plan.values[v] + 4;  // not aligned
    if (program.values[v].view == View::none) {
      EXPECT_FALSE(check_arena(program, rows, workspace, damaged).ok()) << v;
    }
    for (size_t other = 0; other < plan.values.size(); ++other) {
      damaged.values[v] = plan.values[other];
      refused += !check_arena(program, rows, workspace, damaged).ok();
    }
  }
  EXPECT_GT(refused, 20u);
  ArenaPlan smaller = plan;
  smaller.bytes -= kArenaAlignment;
  EXPECT_FALSE(check_arena(program, rows, workspace, smaller).ok());
  smaller = plan;
  smaller.values.pop_back();
  EXPECT_FALSE(check_arena(program, rows, workspace, smaller).ok());
}

}  // namespace
}  // namespace kvass
