// A model as data: operators over values, weights and cache states. A family emits one through ProgramBuilder; the
// planner places its values, the executor runs it. It holds no pointers and no bytes: everything is an index.
//
// Every value is float32 [rows, width] (an argmax has other things in such bytes); *rows* is the only dynamic
// dimension, and a value's extent says which rows it has.
//
// A program with an encoder keeps its output with each sequence: the *source* rows, and for every decoder layer
// the keys and values made of them (its *cross cache*), which are computed in the first step after an encode and read
// in all later ones. Values may be views of that state; a view has no bytes of its own.
//
// Control flow is `cond`: for each sequence of a step, the ops of one of two branches run on that sequence's rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/rotary_params.h"
#include "kvass/status.h"

namespace kvass {

using ValueId = int32_t;
using WeightId = int32_t;
using StateId = int32_t;
using RotaryId = int32_t;
using CrossId = int32_t;
using BranchId = int32_t;
inline constexpr int32_t kNone = -1;
inline constexpr size_t kMaxLinearWeights = 8;  // weights that one `linear` applies to its input
inline constexpr int kMaxCondDepth = 8;         // conds inside one another
inline constexpr int64_t kArgmaxFloats = 4;  // floats whose bytes are an Argmax (kernels/argmax): what `greedy` gives

enum class OpKind : uint8_t {
#define KVASS_OP(name, where, text) name,
#include "program/ops.inc"
#undef KVASS_OP
};
std::string_view op_kind_name(OpKind kind);

enum class Extent : uint8_t {
  chunk,     // a row for each token of a step
  head,      // a row for each row whose logits are asked for
  frames,    // a row for each row that the encoder takes in; one sequence's
  source,    // a row for each row of the encoder output, of one sequence
  sequence,  // a row for each sequence of a step
};
std::string_view extent_name(Extent extent);

// What a value is a view of; `none`: it has bytes of its own in the arena.
enum class View : uint8_t { none, source, keys, values };

struct Value {
  std::string name;
  int64_t width = 0;
  Extent extent = Extent::chunk;
  View view = View::none;
  CrossId cross = kNone;  // whose keys or values are viewed
};

// A weight as the program sees it; where its bytes come from is the family's binding, how they are packed the loader's.
struct Weight {
  std::string name;
  int64_t outputs = 0;  // 0: a vector of `inputs` floats (a norm's weight)
  int64_t inputs = 0;
};

// One layer's KV cache. The layout belongs to the sequence; the program knows its shape only.
struct CacheState {
  std::string name;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t window = 0;       // tokens a query sees; 0: all
  RotaryId rotary = kNone;  // kNone: keys and queries are taken as they are
};

// One layer's keys and values of the source rows, computed once an encode: up to SourceShape::rows of them. Beside them
// the state has a flag, whether they are there, and how many there are.
struct CrossState {
  std::string name;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
};

// What an encoder takes and leaves. All 0: the program has none.
struct SourceShape {
  int64_t rows = 0;    // most rows that it leaves
  int64_t width = 0;   // of them
  int64_t frames = 0;  // most rows that it takes in
};

struct Op {
  OpKind kind{};
  std::string name;  // "layer 3 attention"
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<WeightId> weights;
  StateId state = kNone;
  CrossId cross = kNone;
  std::vector<BranchId> branches;  // cond: what runs where the predicate is not 0, what runs elsewhere
  int64_t heads = 0;               // rms_norm: rows are `heads` groups that share the weight; attention: query heads
  int64_t stride = 0;              // conv1d: 1 or 2
  float epsilon = 0.0f;            // norms
  float scale = 0.0f;              // embed: factor; attention: score scale
  float cap = 0.0f;                // softcap, attention: soft-capping; 0: none
};

// The ops [begin, end) of one way of a cond, which follow it: first one branch, then the other. They may
// read what was written before the cond; what they write ends with the branch, but for the results.
struct Branch {
  int32_t begin = 0;
  int32_t end = 0;
  std::vector<ValueId> results;  // one for each output of the cond, written in the branch
};

// An entry: ops [begin, end) of the program.
struct Part {
  std::string name;
  int32_t begin = 0;
  int32_t end = 0;
};

struct Program {
  std::vector<Value> values;
  std::vector<Weight> weights;
  std::vector<CacheState> states;
  std::vector<RotaryParams> rotaries;  // of groups of layers
  std::vector<CrossState> crosses;
  SourceShape source;
  std::vector<Op> ops;
  std::vector<Branch> branches;
  // `body` (tokens to hidden rows), `head` (asked rows to logits), `encode` (input to source rows), `greedy` (asked
  // rows to the largest logit and its index: greedy.h).
  std::vector<Part> parts;
  ValueId hidden = kNone;  // [rows, width] that `body` leaves
  ValueId logits = kNone;  // [head rows, vocabulary] that `head` leaves

  int64_t vocabulary() const { return values[static_cast<size_t>(logits)].width; }
  const Part* find_part(std::string_view name) const;
  bool has_encoder() const { return source.rows > 0; }
  ValueId argmax() const;  // that `greedy` leaves; kNone: there is no such part
  // The weight of the linear that gives the logits; kNone where something else does.
  WeightId head_weight() const;
  const Op* input() const;        // the op that brings the encoder's input; null: none
  int64_t max_positions() const;  // positions that the position embeddings have; 0: any number
  // Whether a branch runs for one sequence at a time: it works on that sequence's source rows.
  bool one_sequence(const Branch& branch) const;
};

// Checks every index, arity and width, that values are written once and before they are read, that rows match, that
// branches nest, and that views are of what they say.
Status verify_program(const Program& program);

// One line an op, with widths: what `inspect` prints.
std::string print_program(const Program& program);

}  // namespace kvass
