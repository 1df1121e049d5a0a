// plan_arena, checked by replaying the program over the arena: for every byte the test records which value was written
// there last.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "plan/arena.h"
#include "program/builder.h"
#include "program/op_spec.h"
#include "seed.h"

namespace kvass {
namespace {

constexpr int kNobody = -1;

// The owner of each byte of the arena: [begin, end) -> value. Workspace has an owner that is never read.
class ByteOwners {
 public:
  void write(size_t begin, size_t end, int owner) {
    if (begin == end) return;
    split(begin);
    split(end);
    owners_.erase(owners_.lower_bound(begin), owners_.lower_bound(end));
    owners_[begin] = owner;
  }
  bool all(size_t begin, size_t end, int owner) const {
    if (begin == end) return true;
    auto it = owners_.upper_bound(begin);
    if (it == owners_.begin()) return false;
    for (--it; it != owners_.end() && it->first < end; ++it) {
      if (it->second != owner) return false;
    }
    return true;
  }

 private:
  void split(size_t at) {
    auto it = owners_.upper_bound(at);
    const int owner = it == owners_.begin() ? kNobody : std::prev(it)->second;
    owners_.emplace(at, owner);
  }
  std::map<size_t, int> owners_;  // first byte of a range -> the value that was written there
};

size_t value_bytes(const Program& program, ValueId id, int64_t rows, int64_t head_rows) {
  const Value& value = program.values[static_cast<size_t>(id)];
  return static_cast<size_t>((value.extent == Extent::chunk ? rows : head_rows) * value.width) * sizeof(float);
}

bool may_work_in_place(OpKind kind) {
  return kind == op_kind("rms_norm") || kind == op_kind("add") || kind == op_kind("bias") ||
         kind == op_kind("gelu_gate") || kind == op_kind("silu_gate") || kind == op_kind("softcap");
}

// Replays the ops over the owners. An input must still own its bytes when its op begins. An output may overlap an input
// only if the op works in place and both begin at the same byte. A workspace may overlap neither.
void replay(const Program& program, const ArenaPlan& plan, int64_t rows, int64_t head_rows,
            const std::vector<size_t>& workspace, const Part& part, ByteOwners& owners) {
  const auto begin = [&](ValueId id) { return plan.values[static_cast<size_t>(id)]; };
  const auto end = [&](ValueId id) { return begin(id) + value_bytes(program, id, rows, head_rows); };
  const auto meet = [](size_t a, size_t a_end, size_t b, size_t b_end) { return a < b_end && b < a_end; };
  for (int32_t i = part.begin; i < part.end; ++i) {
    const Op& op = program.ops[static_cast<size_t>(i)];
    SCOPED_TRACE(::testing::Message() << "op " << i << " " << op.name);
    const size_t scratch = plan.workspace[static_cast<size_t>(i)];
    const size_t scratch_end = scratch + workspace[static_cast<size_t>(i)];
    ASSERT_EQ(scratch % kArenaAlignment, 0u);
    ASSERT_LE(scratch_end, plan.bytes);
    for (ValueId in : op.inputs)
      ASSERT_TRUE(owners.all(begin(in), end(in), in)) << "input " << in << " was overwritten";
    std::vector<ValueId> all = op.inputs;
    all.insert(all.end(), op.outputs.begin(), op.outputs.end());
    for (ValueId id : all)
      ASSERT_FALSE(meet(begin(id), end(id), scratch, scratch_end)) << "value " << id << " on the workspace";
    for (size_t a = 0; a < op.outputs.size(); ++a) {
      const ValueId out = op.outputs[a];
      ASSERT_EQ(begin(out) % kArenaAlignment, 0u);
      ASSERT_LE(end(out), plan.bytes);
      for (size_t b = 0; b < a; ++b) ASSERT_FALSE(meet(begin(out), end(out), begin(op.outputs[b]), end(op.outputs[b])));
      for (ValueId in : op.inputs) {
        if (!meet(begin(out), end(out), begin(in), end(in))) continue;
        ASSERT_TRUE(may_work_in_place(op.kind)) << op_kind_name(op.kind) << " cannot write over an input";
        ASSERT_EQ(begin(out), begin(in));
        ASSERT_EQ(end(out), end(in));
      }
    }
    owners.write(scratch, scratch_end, kNobody);
    for (ValueId out : op.outputs) owners.write(begin(out), end(out), out);
  }
}

// Two steps, each asked for argmax and logits three times in that order: values that are live at the end must stay.
void check_plan(const Program& program, int64_t rows, int64_t head_rows, const std::vector<size_t>& workspace) {
  ASSERT_TRUE(verify_program(program).ok()) << verify_program(program).message();
  const Result<ArenaPlan> plan = plan_arena(program, {rows, head_rows, 1}, workspace);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  ASSERT_EQ(plan->values.size(), program.values.size());
  ASSERT_EQ(plan->workspace.size(), program.ops.size());
  EXPECT_GE(plan->bytes, plan->bound_bytes);
  EXPECT_LE(plan->bytes, plan->sum_bytes);
  ByteOwners owners;
  const auto run = [&](const Part& part, std::initializer_list<ValueId> results) {
    SCOPED_TRACE(part.name);
    replay(program, plan.value(), rows, head_rows, workspace, part, owners);
    for (ValueId id : results) {
      const size_t begin = plan->values[static_cast<size_t>(id)];
      EXPECT_TRUE(owners.all(begin, begin + value_bytes(program, id, rows, head_rows), id)) << "result " << id;
    }
  };
  for (int step = 0; step < 2; ++step) {
    for (const Part& part : program.parts) {
      if (part.name == "body") run(part, {program.hidden});
    }
    for (int again = 0; again < 3; ++again) {
      run(*program.find_part("greedy"), {program.hidden, program.argmax()});
      run(*program.find_part("head"), {program.hidden, program.logits});
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

struct Shape {
  int64_t layers = 18, width = 640, hidden = 2048, heads = 4, kv_heads = 1, head_dim = 256, vocabulary = 262144;
};

// A decoder of Gemma 3's shape: pre- and post-norms around attention and a gated feed-forward.
Program decoder(const Shape& s) {
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", s.vocabulary, s.width);
  const WeightId norm = builder.vector("norm", s.width);
  const WeightId head_norm = builder.vector("head norm", s.head_dim);
  const std::array qkv = {builder.matrix("q", s.heads * s.head_dim, s.width),
                          builder.matrix("k", s.kv_heads * s.head_dim, s.width),
                          builder.matrix("v", s.kv_heads * s.head_dim, s.width)};
  const std::array<std::string, 3> qkv_names = {"q", "k", "v"};
  const WeightId output = builder.matrix("output", s.width, s.heads * s.head_dim);
  const std::array gate_up = {builder.matrix("gate", s.hidden, s.width), builder.matrix("up", s.hidden, s.width)};
  const std::array<std::string, 2> gate_up_names = {"gate", "up"};
  const WeightId down = builder.matrix("down", s.width, s.hidden);
  const RotaryId rotary = builder.rotary({s.head_dim, 10000.0, 1.0});
  builder.begin_part("body");
  ValueId x = builder.embed(table, 2.0f);
  for (int64_t layer = 0; layer < s.layers; ++layer) {
    builder.set_scope("layer " + std::to_string(layer));
    const StateId state = builder.cache("cache", s.kv_heads, s.head_dim, 0, rotary);
    ValueId h = builder.rms_norm("pre", x, norm, 1e-6f);
    const std::vector<ValueId> parts = builder.linear("qkv", h, qkv, qkv_names);
    const ValueId q = builder.rms_norm("q norm", parts[0], head_norm, 1e-6f, s.heads);
    const ValueId k = builder.rms_norm("k norm", parts[1], head_norm, 1e-6f, s.kv_heads);
    builder.cache_write(k, parts[2], state);
    h = builder.attention(q, state, s.heads, 1.0f, 0.0f);
    h = builder.linear("out", h, output);
    x = builder.add("residual", x, builder.rms_norm("post", h, norm, 1e-6f));
    h = builder.rms_norm("ffn pre", x, norm, 1e-6f);
    const std::vector<ValueId> hidden = builder.linear("gate up", h, gate_up, gate_up_names);
    h = builder.linear("down", builder.gelu_gate(hidden[0], hidden[1]), down);
    x = builder.add("residual", x, builder.rms_norm("ffn post", h, norm, 1e-6f));
  }
  builder.set_hidden(x);
  builder.begin_part("head");
  ValueId h = builder.rms_norm("norm", builder.select_rows(x), norm, 1e-6f);
  builder.set_logits(builder.softcap(builder.linear("logits", h, table), 30.0f));
  return std::move(builder).finish();
}

// Workspaces of about the size that ops ask for.
std::vector<size_t> typical_workspace(const Program& program, int64_t rows) {
  std::vector<size_t> bytes;
  for (const Op& op : program.ops) {
    const bool linear = op.kind == op_kind("linear") || op.kind == op_kind("attention");
    bytes.push_back(
        linear ? static_cast<size_t>(rows * program.values[static_cast<size_t>(op.inputs[0])].width) * 2 + 100 : 0);
  }
  return bytes;
}

TEST(Arena, GemmaShapedProgramIsSoundAndWithinATenthOfTheBound) {
  const Program program = decoder({});
  for (const int64_t rows : {1, 32, 256}) {
    for (const int64_t head_rows : {1, 16}) {
      SCOPED_TRACE(::testing::Message() << rows << " rows, " << head_rows << " head rows");
      const std::vector<size_t> workspace = typical_workspace(program, rows);
      check_plan(program, rows, head_rows, workspace);
      const ArenaPlan plan = plan_arena(program, {rows, head_rows, 1}, workspace).value();
      EXPECT_LE(static_cast<double>(plan.bytes), 1.1 * static_cast<double>(plan.bound_bytes));
      if (rows == 256) {
        EXPECT_LT(plan.bytes * 8, plan.sum_bytes);
      }
    }
  }
}

TEST(Arena, ElementwiseOpsWriteOverAnInputThatEnds) {
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", 100, 64);
  const WeightId vector = builder.vector("vector", 64);
  builder.begin_part("body");
  const ValueId first = builder.embed(table, 1.0f), second = builder.embed(table, 1.0f);
  const ValueId biased = builder.bias("bias", first, vector);
  const ValueId silu = builder.silu_gate(biased, second), gelu = builder.gelu_gate(silu, second);
  const ValueId sum = builder.add("sum", gelu, second);
  builder.set_hidden(sum);
  builder.begin_part("head");
  builder.set_logits(builder.linear("logits", builder.select_rows(sum), table));
  const Program program = std::move(builder).finish();
  ASSERT_EQ(verify_program(program).message(), "");
  const ArenaPlan plan = plan_arena(program, {10, 1, 1}, std::vector<size_t>(program.ops.size(), 0)).value();
  for (const ValueId value : {biased, silu, gelu, program.hidden}) {
    EXPECT_EQ(plan.values[static_cast<size_t>(value)], plan.values[static_cast<size_t>(first)]) << value;
  }
  EXPECT_NE(plan.values[static_cast<size_t>(second)], plan.values[static_cast<size_t>(first)]);
}

TEST(Arena, BoundIsTheMostThatIsLiveAtOneOp) {
  // embed [64] -> norm in place -> select -> logits: at `logits` the hidden rows, the selected rows and the logits are
  // live.
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", 1000, 64);
  const WeightId norm = builder.vector("norm", 64);
  builder.begin_part("body");
  const ValueId x = builder.rms_norm("norm", builder.embed(table, 1.0f), norm, 1e-6f);
  builder.set_hidden(x);
  builder.begin_part("head");
  builder.set_logits(builder.linear("logits", builder.select_rows(x), table));
  const Program program = std::move(builder).finish();
  std::vector<size_t> workspace(program.ops.size(), 0);
  workspace[3] = 128;  // of the logits
  const ArenaPlan plan = plan_arena(program, {8, 2, 1}, workspace).value();
  check_plan(program, 8, 2, workspace);
  EXPECT_EQ(plan.values[0], plan.values[1]);  // the norm works in place
  EXPECT_EQ(plan.bound_bytes, (8 * 64 + 2 * 64 + 2 * 1000) * sizeof(float) + 128);
  EXPECT_EQ(plan.bytes, plan.bound_bytes);
}

TEST(Arena, AnInputThatIsReadLaterIsNotWrittenOver) {
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", 10, 16);
  const WeightId norm = builder.vector("norm", 16);
  builder.begin_part("body");
  const ValueId x = builder.embed(table, 1.0f);
  const ValueId h = builder.rms_norm("norm", x, norm, 1e-6f);  // x is read again: not in place
  const ValueId sum = builder.add("sum", h, x);                // h ends here: in place over h, not over x
  builder.set_hidden(sum);
  builder.begin_part("head");
  builder.set_logits(builder.linear("logits", builder.select_rows(sum), table));
  const Program program = std::move(builder).finish();
  const std::vector<size_t> workspace(program.ops.size(), 0);
  const ArenaPlan plan = plan_arena(program, {4, 1, 1}, workspace).value();
  EXPECT_NE(plan.values[static_cast<size_t>(x)], plan.values[static_cast<size_t>(h)]);
  EXPECT_EQ(plan.values[static_cast<size_t>(sum)], plan.values[static_cast<size_t>(h)]);
  check_plan(program, 4, 1, workspace);
}

TEST(Arena, AValueOfTheBodyThatTheHeadReadsSurvivesSeveralHeads) {
  ProgramBuilder builder;
  const WeightId table = builder.matrix("table", 10, 16);
  const WeightId wide = builder.matrix("wide", 64, 16);
  const WeightId back = builder.matrix("back", 10, 64);
  builder.begin_part("body");
  const ValueId x = builder.embed(table, 1.0f);
  const ValueId y = builder.linear("y", x, wide);
  builder.set_hidden(x);
  builder.begin_part("head");
  builder.set_logits(builder.linear("logits", builder.select_rows(y), back));
  const Program program = std::move(builder).finish();
  check_plan(program, 4, 4, std::vector<size_t>(program.ops.size(), 0));
}

// A random program: values of a few widths, read by ops of every kind that takes them, some never read.
Program random_program(testing::Random& random) {
  constexpr int64_t kHeadDim = 16;
  ProgramBuilder builder;
  std::map<int64_t, WeightId> norms;
  std::map<std::pair<int64_t, int64_t>, WeightId> matrices;
  const std::array<int64_t, 4> widths = {16, 32, 48, 160};
  for (int64_t in : widths) {
    norms[in] = builder.vector("norm", in);
    for (int64_t out : widths) matrices[{out, in}] = builder.matrix("matrix", out, in);
  }
  const WeightId table = builder.matrix("table", 50, 32);
  const WeightId head = builder.matrix("head", 50, 32);
  const RotaryId rotary = builder.rotary({kHeadDim, 10000.0, 1.0});
  const StateId state = builder.cache("cache", 1, kHeadDim, 0, rotary);
  builder.begin_part("body");
  std::vector<std::pair<ValueId, int64_t>> values = {{builder.embed(table, 1.0f), 32}};
  const auto pick = [&] {
    return values[static_cast<size_t>(random.integer(0, static_cast<int64_t>(values.size()) - 1))];
  };
  for (int64_t n = random.integer(1, 40); n > 0; --n) {
    const auto [x, width] = pick();
    const auto [y, y_width] = pick();
    switch (random.integer(0, 6)) {
      case 0:
        values.emplace_back(builder.rms_norm("norm", x, norms[width], 1e-6f), width);
        break;
      case 1: {
        const int64_t a = widths[static_cast<size_t>(random.integer(0, 3))],
                      b = widths[static_cast<size_t>(random.integer(0, 3))];
        const std::array weights = {matrices[{a, width}], matrices[{b, width}]};
        const std::array<std::string, 2> names = {"a", "b"};
        const std::vector<ValueId> outputs = builder.linear("linear", x, weights, names);
        values.emplace_back(outputs[0], a);
        values.emplace_back(outputs[1], b);
        break;
      }
      case 2:
        values.emplace_back(builder.attention(x, state, width / kHeadDim, 1.0f, 0.0f), width);
        break;
      case 3:
        if (width == y_width) values.emplace_back(builder.add("add", x, y), width);
        break;
      case 4:
        if (width == y_width) values.emplace_back(builder.silu_gate(x, y), width);
        break;
      case 5:
        values.emplace_back(builder.bias("bias", x, norms[width]), width);
        break;
      default:
        if (width == y_width) values.emplace_back(builder.gelu_gate(x, y), width);
    }
  }
  const auto [last, width] = pick();
  const ValueId hidden = builder.linear("hidden", last, matrices[{32, width}]);
  builder.set_hidden(hidden);
  builder.begin_part("head");
  builder.set_logits(builder.linear("logits", builder.select_rows(hidden), head));
  return std::move(builder).finish();
}

TEST(Arena, RandomProgramsNeverShareBytesBetweenLivingValues) {
  testing::Random random;
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round);
    const Program program = random_program(random);
    std::vector<size_t> workspace;
    for (size_t i = 0; i < program.ops.size(); ++i) {
      workspace.push_back(static_cast<size_t>(random.integer(0, 1) * random.integer(1, 5000)));
    }
    check_plan(program, random.integer(1, 9), random.integer(1, 5), workspace);
    if (HasFatalFailure()) return;
  }
}

TEST(Arena, AbsurdLimitsAreErrors) {
  const Program program = decoder({.layers = 1});
  const std::vector<size_t> none(program.ops.size(), 0);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_FALSE(plan_arena(program, {0, 1, 1}, none).ok());
  EXPECT_FALSE(plan_arena(program, {1, 0, 1}, none).ok());
  EXPECT_FALSE(plan_arena(program, {-1, 1, 1}, none).ok());
  EXPECT_FALSE(plan_arena(program, {kMost, 1, 1}, none).ok());
  EXPECT_FALSE(plan_arena(program, {1, kMost, 1}, none).ok());
  EXPECT_FALSE(plan_arena(program, {int64_t{1} << 45, 1, 1}, none).ok());
}

}  // namespace
}  // namespace kvass
