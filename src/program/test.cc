// verify_program refuses every kind of damage to a sound program; print_program is stable.
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>

#include "program/builder.h"
#include "program/damaged_program.h"
#include "program/program.h"

namespace kvass {
namespace {

using testing::find_op;

// One layer with every operator. 2 KV heads of 16, 4 query heads, width 32, vocabulary 10.
Program small_program() {
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", 10, 32);
  const WeightId norm = builder.vector("norm", 32);
  const WeightId head_norm = builder.vector("head norm", 16);
  const std::array qkv = {builder.matrix("wq", 64, 32), builder.matrix("wk", 32, 32), builder.matrix("wv", 32, 32)};
  const std::array<std::string, 3> names = {"q", "k", "v"};
  const WeightId output = builder.matrix("wo", 32, 64);
  const StateId state = builder.cache("cache 0", 2, 16, 8, builder.rotary({16, 10000.0, 1.0}));
  builder.begin_part("body");
  const ValueId x = builder.embed(table, 2.0f);
  builder.set_scope("layer 0");
  const std::vector<ValueId> parts = builder.linear("qkv", builder.rms_norm("pre", x, norm, 1e-6f), qkv, names);
  const ValueId q = builder.rms_norm("q norm", parts[0], head_norm, 1e-6f, 4);
  builder.cache_write(parts[1], parts[2], state);
  const ValueId h = builder.linear("out", builder.attention(q, state, 4, 0.25f, 0.0f), output);
  const ValueId biased = builder.bias("out bias", h, norm);
  const ValueId sum = builder.add("residual", x, builder.gelu_gate(biased, builder.silu_gate(biased, h)));
  builder.set_hidden(sum);
  builder.begin_part("head");
  builder.set_logits(builder.softcap(builder.linear("logits", builder.select_rows(sum), table), 30.0f));
  return std::move(builder).finish();
}

#define EXPECT_REFUSED(words, damage) EXPECT_REFUSED_OF(small_program(), words, damage)

TEST(VerifyProgram, ASoundProgramIsAccepted) {
  EXPECT_EQ(verify_program(small_program()).message(), "");
  EXPECT_EQ(small_program().vocabulary(), 10);
}

TEST(VerifyProgram, IndicesOutsideTheirTablesAreRefused) {
  EXPECT_REFUSED("inputs", find_op(p, OpKind::add).inputs[0] = -1);
  EXPECT_REFUSED("inputs", find_op(p, OpKind::add).inputs[1] = 1000);
  EXPECT_REFUSED("outputs", find_op(p, OpKind::embed).outputs[0] = -1);
  EXPECT_REFUSED("outputs", find_op(p, OpKind::embed).outputs[0] = std::numeric_limits<int32_t>::max());
  EXPECT_REFUSED("weights", find_op(p, OpKind::linear).weights[0] = 100);
  EXPECT_REFUSED("weights", find_op(p, OpKind::embed).weights[0] = -7);
  EXPECT_REFUSED("state", find_op(p, OpKind::attention).state = 1);
  EXPECT_REFUSED("state", find_op(p, OpKind::cache_write).state = kNone);
  EXPECT_REFUSED("rotary", p.states[0].rotary = 1);
  EXPECT_REFUSED("rotary", p.states[0].rotary = -2);
  EXPECT_REFUSED("result", p.hidden = kNone);
  EXPECT_REFUSED("result", p.logits = 1000);
  EXPECT_REFUSED("kind", find_op(p, OpKind::add).kind = static_cast<OpKind>(200));
}

TEST(VerifyProgram, WrongAritiesAreRefused) {
  EXPECT_REFUSED("arity", p.ops[1].inputs.push_back(0));
  EXPECT_REFUSED("arity", find_op(p, OpKind::embed).weights.clear());
  EXPECT_REFUSED("arity", find_op(p, OpKind::embed).outputs.clear());
  EXPECT_REFUSED("arity", find_op(p, OpKind::rms_norm).inputs.clear());
  EXPECT_REFUSED("arity", find_op(p, OpKind::linear).outputs.pop_back());
  EXPECT_REFUSED("weights", (find_op(p, OpKind::linear).weights.clear(), find_op(p, OpKind::linear).outputs.clear()));
  EXPECT_REFUSED("weights", find_op(p, OpKind::linear).weights.resize(9));
  EXPECT_REFUSED("arity", find_op(p, OpKind::cache_write).inputs.pop_back());
  EXPECT_REFUSED("arity", find_op(p, OpKind::attention).inputs.clear());
  EXPECT_REFUSED("arity", find_op(p, OpKind::add).inputs.pop_back());
  EXPECT_REFUSED("arity", find_op(p, OpKind::gelu_gate).weights = {0});
  EXPECT_REFUSED("arity", find_op(p, OpKind::silu_gate).inputs.pop_back());
  EXPECT_REFUSED("arity", find_op(p, OpKind::bias).weights.clear());
  EXPECT_REFUSED("arity", find_op(p, OpKind::bias).inputs.push_back(0));
  EXPECT_REFUSED("arity", find_op(p, OpKind::select_rows).outputs.clear());
  EXPECT_REFUSED("arity", find_op(p, OpKind::softcap).inputs.push_back(0));
}

TEST(VerifyProgram, WidthsThatDoNotMatchAreRefused) {
  EXPECT_REFUSED("width", p.values[static_cast<size_t>(find_op(p, OpKind::embed).outputs[0])].width = 31);
  EXPECT_REFUSED("width", p.values[static_cast<size_t>(find_op(p, OpKind::linear).outputs[2])].width = 16);
  EXPECT_REFUSED("width", p.values[static_cast<size_t>(find_op(p, OpKind::attention).outputs[0])].width = 32);
  EXPECT_REFUSED("width", p.values[static_cast<size_t>(find_op(p, OpKind::add).outputs[0])].width = 64);
  EXPECT_REFUSED("width", p.values[static_cast<size_t>(find_op(p, OpKind::select_rows).outputs[0])].width = 1);
  EXPECT_REFUSED("width", p.values[static_cast<size_t>(p.logits)].width = 11);
  EXPECT_REFUSED("width", p.weights[0].inputs = 33);
  EXPECT_REFUSED("width", find_op(p, OpKind::rms_norm).heads = 2);
  EXPECT_REFUSED("width", find_op(p, OpKind::bias).weights[0] = 2);
  EXPECT_REFUSED("width", p.values[static_cast<size_t>(find_op(p, OpKind::bias).outputs[0])].width = 16);
  EXPECT_REFUSED("width", p.values[static_cast<size_t>(find_op(p, OpKind::silu_gate).outputs[0])].width = 16);
  EXPECT_REFUSED("width", find_op(p, OpKind::attention).heads = 2);
}

TEST(VerifyProgram, HeadsMustBeAMultipleOfKvHeads) {
  EXPECT_REFUSED("multiple of 2 KV heads", find_op(p, OpKind::attention).heads = 3);
  EXPECT_REFUSED("multiple of 2 KV heads", find_op(p, OpKind::attention).heads = 0);
  EXPECT_REFUSED("heads", find_op(p, OpKind::rms_norm).heads = 0);
  EXPECT_REFUSED("multiple of 16", p.states[0].head_dim = 24);
  EXPECT_REFUSED("multiple of 16", p.states[0].head_dim = 0);
  EXPECT_REFUSED("state", p.states[0].kv_heads = 0);
  EXPECT_REFUSED("window", p.states[0].window = -1);
  EXPECT_REFUSED("rotary", p.rotaries[0].head_dim = 32);
}

TEST(VerifyProgram, ValuesAreWrittenOnceAndBeforeTheyAreRead) {
  EXPECT_REFUSED("written before", find_op(p, OpKind::rms_norm).inputs[0] = p.logits);
  EXPECT_REFUSED("written before", find_op(p, OpKind::rms_norm).inputs[0] = find_op(p, OpKind::rms_norm).outputs[0]);
  EXPECT_REFUSED("written before", std::swap(p.ops[0], p.ops[1]));
  EXPECT_REFUSED("no other op writes", find_op(p, OpKind::add).outputs[0] = find_op(p, OpKind::embed).outputs[0]);
  EXPECT_REFUSED("no other op writes", find_op(p, OpKind::linear).outputs[2] = find_op(p, OpKind::linear).outputs[1]);
}

TEST(VerifyProgram, PartsCoverEveryOpOnceAndInOrder) {
  EXPECT_REFUSED("part", p.parts[0].begin = 1);
  EXPECT_REFUSED("part", p.parts[0].end += 1);
  EXPECT_REFUSED("part", p.parts[1].end -= 1);
  EXPECT_REFUSED("part", p.parts[1].end += 1);
  EXPECT_REFUSED("part", p.parts.pop_back());
  EXPECT_REFUSED("part", p.parts.clear());
  EXPECT_REFUSED("part", p.parts[1].end = -1);
  EXPECT_REFUSED("part", p.parts[0].name = "prefill");
}

TEST(VerifyProgram, RowsMustMatch) {
  EXPECT_REFUSED("rows", p.values[static_cast<size_t>(find_op(p, OpKind::embed).outputs[0])].extent = Extent::head);
  EXPECT_REFUSED("rows",
                 p.values[static_cast<size_t>(find_op(p, OpKind::select_rows).outputs[0])].extent = Extent::chunk);
  EXPECT_REFUSED("rows", p.values[static_cast<size_t>(find_op(p, OpKind::attention).outputs[0])].extent = Extent::head);
  EXPECT_REFUSED("rows", p.values[static_cast<size_t>(p.logits)].extent = Extent::chunk);
  EXPECT_REFUSED("result", p.hidden = p.logits);
  EXPECT_REFUSED("result", p.logits = p.hidden);
}

TEST(VerifyProgram, AMatrixIsNoVector) {
  // A table without outputs would be a vector; a norm's weight with outputs a matrix.
  EXPECT_REFUSED("weight", find_op(p, OpKind::embed).weights[0] = 1);
  EXPECT_REFUSED("weight", find_op(p, OpKind::rms_norm).weights[0] = 0);
  EXPECT_REFUSED("weight", find_op(p, OpKind::linear).weights[0] = 1);
  EXPECT_REFUSED("weight", find_op(p, OpKind::bias).weights[0] = 0);
}

TEST(VerifyProgram, HugeNumbersAreRefusedWithoutOverflow) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_REFUSED("", find_op(p, OpKind::rms_norm).heads = kMost);
  EXPECT_REFUSED("", p.states[0].kv_heads = kMost);
  EXPECT_REFUSED("", p.states[0].head_dim = kMost - 15);
  EXPECT_REFUSED("", find_op(p, OpKind::attention).heads = kMost - 1);
}

TEST(ProgramBuilder, EqualRotaryParametersAreOneTable) {
  ProgramBuilder builder;
  const RotaryId a = builder.rotary({16, 10000.0, 1.0});
  EXPECT_EQ(builder.rotary({16, 10000.0, 1.0}), a);
  EXPECT_NE(builder.rotary({16, 1000000.0, 1.0}), a);
  EXPECT_NE(builder.rotary({32, 10000.0, 1.0}), a);
  EXPECT_NE(builder.rotary({16, 10000.0, 8.0}), a);
  EXPECT_NE(builder.rotary({16, 10000.0, 1.0, true}), a);
  EXPECT_NE(builder.rotary({16, 10000.0, 1.0, false, std::vector<float>(8, 2.0f)}), a);
  EXPECT_NE(builder.rotary({16, 10000.0, 1.0, false, {}, 2.0}), a);
  EXPECT_NE(builder.rotary({16, 10000.0, 1.0, false, {}, 1.0, {2048.0}}), a);
}

TEST(Program, PartsAreFoundByName) {
  const Program program = small_program();
  ASSERT_NE(program.find_part("body"), nullptr);
  ASSERT_NE(program.find_part("head"), nullptr);
  EXPECT_EQ(program.find_part("body")->end, program.find_part("head")->begin);
  EXPECT_EQ(program.find_part("encode"), nullptr);
}

TEST(Program, PrintsOneLineAnOp) {
  EXPECT_EQ(print_program(small_program()),
            "rotary 0 head size 16, halves, base 10000\n"
            "part body\n"
            "     0 embed         -> %0[32] table scale 2   ; embedding\n"
            "     1 rms_norm     %0[32] -> %1[32] norm heads 1 epsilon 1e-06   ; layer 0 pre\n"
            "     2 linear       %1[32] -> %2[64], %3[32], %4[32] wq wk wv   ; layer 0 qkv\n"
            "     3 rms_norm     %2[64] -> %5[64] head norm heads 4 epsilon 1e-06   ; layer 0 q norm\n"
            "     4 cache_write  %3[32], %4[32] ->  state cache 0   ; layer 0 cache write\n"
            "     5 attention    %5[64] -> %6[64] state cache 0 heads 4 scale 0.25   ; layer 0 attention\n"
            "     6 linear       %6[64] -> %7[32] wo   ; layer 0 out\n"
            "     7 bias         %7[32] -> %8[32] norm   ; layer 0 out bias\n"
            "     8 silu_gate    %8[32], %7[32] -> %9[32]   ; layer 0 silu gate\n"
            "     9 gelu_gate    %8[32], %9[32] -> %10[32]   ; layer 0 gelu gate\n"
            "    10 add          %0[32], %10[32] -> %11[32]   ; layer 0 residual\n"
            "part head\n"
            "    11 select_rows  %11[32] -> %12[32]   ; select rows\n"
            "    12 linear       %12[32] -> %13[10] table   ; logits\n"
            "    13 softcap      %13[10] -> %14[10] cap 30   ; softcap\n"
            "part greedy\n"
            "    14 select_rows  %11[32] -> %15[32]   ; select rows\n"
            "    15 linear       %15[32] -> %16[10] table   ; logits\n"
            "    16 softcap      %16[10] -> %17[10] cap 30   ; softcap\n"
            "    17 argmax       %17[10] -> %18[4]   ; argmax\n");
}

TEST(Program, PrintsWhatARotaryEmbeddingIs) {
  Program program = small_program();
  RotaryParams& rotary = program.rotaries[0];
  rotary.interleaved = true;
  rotary.factor = 4.0;
  rotary.divisors = {1, 1, 2, 3, 4, 4, 4, 8};
  rotary.attention_factor = 0.5;
  rotary.yarn = {2048.0, 24.0, 2.0, 0.75};
  const std::string text = print_program(program);
  EXPECT_EQ(text.substr(0, text.find('\n')),
            "rotary 0 head size 16, neighbours, base 10000, factor 4, frequencies divided by 1 to 8, attention factor "
            "0.5, YaRN from 2048 tokens, beta 24 to 2, extrapolation 0.75");
}

TEST(ProgramBuilder, EmitsAnyOperatorAsItsOwnFunctionDoes) {
  const auto built = [](bool any) {
    ProgramBuilder builder;
    const WeightId table = builder.matrix("table", 50, 32);
    builder.begin_part("body");
    ValueId x = builder.embed(table, 1.0f);
    builder.set_scope("layer 0");
    Op copy;
    copy.kind = OpKind::copy;
    copy.name = "again";
    copy.inputs = {x};
    const int64_t width = 32;
    x = any ? builder.emit(copy, std::span(&width, 1))[0] : builder.copy("again", x);
    builder.set_hidden(x);
    builder.begin_part("head");
    Op select;
    select.kind = OpKind::select_rows;
    select.name = "select rows";
    select.inputs = {x};
    x = any ? builder.emit(select, std::span(&width, 1))[0] : builder.select_rows(x);
    builder.set_logits(builder.linear("logits", x, table));
    return std::move(builder).finish();
  };
  EXPECT_EQ(verify_program(built(true)).message(), "");
  EXPECT_EQ(print_program(built(true)), print_program(built(false)));
}

}  // namespace
}  // namespace kvass
