// A model as data: operators over values, weights and cache states. A family emits one through ProgramBuilder; the
// planner places its values, the executor runs it. It holds no pointers and no bytes: everything is an index.
//
// Every value is float32 [rows, width]; *rows* is the only dynamic dimension. A value of the `chunk` extent has a row
// for each token of a step, one of the `head` extent a row for each row whose logits are asked for.
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
inline constexpr int32_t kNone = -1;
inline constexpr size_t kMaxLinearWeights = 8;  // weights that one `linear` applies to its input

enum class OpKind : uint8_t {
#define KVASS_OP(name, text) name,
#include "program/ops.inc"
#undef KVASS_OP
};
std::string_view op_kind_name(OpKind kind);

enum class Extent : uint8_t { chunk, head };

struct Value {
  std::string name;
  int64_t width = 0;
  Extent extent = Extent::chunk;
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
  int64_t window = 0;  // tokens a query sees; 0: all
  RotaryId rotary = kNone;
};

struct Op {
  OpKind kind{};
  std::string name;  // "layer 3 attention"
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<WeightId> weights;
  StateId state = kNone;
  int64_t heads = 0;     // rms_norm: rows are `heads` groups that share the weight; attention: query heads
  float epsilon = 0.0f;  // rms_norm
  float scale = 0.0f;    // embed: factor; attention: score scale
  float cap = 0.0f;      // softcap, attention: soft-capping; 0: none
};

// An entry: ops [begin, end) of the program.
struct Method {
  std::string name;
  int32_t begin = 0;
  int32_t end = 0;
};

struct Program {
  std::vector<Value> values;
  std::vector<Weight> weights;
  std::vector<CacheState> states;
  std::vector<RotaryParams> rotaries;  // of groups of layers
  std::vector<Op> ops;
  std::vector<Method> methods;  // run in this order: `body` (tokens to hidden rows), `head` (asked rows to logits)
  ValueId hidden = kNone;       // [rows, width] that `body` leaves
  ValueId logits = kNone;       // [head rows, vocabulary] that `head` leaves

  int64_t vocabulary() const { return values[static_cast<size_t>(logits)].width; }
  const Method* find_method(std::string_view name) const;
};

// Checks every index, arity and width, that values are written once and before they are read, and that rows match.
Status verify_program(const Program& program);

// One line an op, with widths: what `inspect` prints.
std::string print_program(const Program& program);

}  // namespace kvass
