// What an operator of programs is, as data: everything that the verifier, the arena planner, the printer and the tests
// need to know of it. It says nothing of how an operator runs (exec/operators.h) and holds no tensors.
//
// Each operator defines `op_spec_<name>` in its folder (src/ops/<name>/op.cc); op_spec(kind) finds it through ops.inc.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kvass/status.h"
#include "program/program.h"

namespace kvass {

class OpCheck;

// Where an op stands.
enum class Place : uint8_t {
  body,          // in a part that steps run
  one_sequence,  // there, in a branch that runs for one sequence at a time
  encode,        // in `encode`
  head,          // in `head` or `greedy`
};

// Sets of places and of extents.
template <class Enum>
struct EnumSet {
  uint8_t bits = 0;
  constexpr bool has(Enum one) const { return (bits >> static_cast<unsigned>(one) & 1) != 0; }
  constexpr bool empty() const { return bits == 0; }
};
template <class Enum, class... More>
constexpr EnumSet<Enum> set_of(Enum first, More... more) {
  return {static_cast<uint8_t>(((1u << static_cast<unsigned>(first)) | ... | (1u << static_cast<unsigned>(more))))};
}
inline constexpr EnumSet<Extent> kAnyRows =
    set_of(Extent::chunk, Extent::head, Extent::frames, Extent::source, Extent::sequence);
inline constexpr EnumSet<Extent> kSameRows = {};  // as the first input
inline constexpr EnumSet<Place> kAnywhere = set_of(Place::body, Place::one_sequence, Place::encode, Place::head);

// How many inputs, outputs or weights an op has.
struct Count {
  size_t least = 0;
  size_t most = 0;
  constexpr Count(size_t exactly) : least(exactly), most(exactly) {}  // NOLINT: a number is a count
  constexpr Count(size_t at_least, size_t at_most) : least(at_least), most(at_most) {}
};

enum class WeightForm : uint8_t { vector, matrix };

// What an operator does with memory that outlives the step: the cache of its state, the cross cache of its state, the
// encoder output.
enum class Access : uint8_t { none, reads, writes };

// A small op of the kind, which the tests of all operators run: widths and attributes that go together. The program
// around it has a state and a cross cache of 2 KV heads of 16, a source of 12 rows of 32 of at most 24 frames, and a
// vocabulary of 40 tokens.
struct OpExample {
  struct Shape {
    int64_t outputs = 0;  // 0: a vector
    int64_t inputs = 0;
  };
  std::array<int64_t, 3> inputs{};   // widths
  std::array<int64_t, 2> outputs{};  // widths
  std::array<Shape, 2> weights{};
  int64_t heads = 0;
  int64_t stride = 0;
  float epsilon = 0.0f;
  float scale = 0.0f;
  float cap = 0.0f;
  bool any_width = false;  // nothing says how wide its output is
};

struct OpSpec {
  Count inputs = 1;
  Count outputs = 1;
  Count weights = 0;
  bool output_per_weight = false;  // as many outputs as weights
  size_t branches = 0;             // of a cond: its ops follow it; outputs are what the branches give
  WeightForm weight_form = WeightForm::vector;
  bool reads_single_rows = false;  // of its weights, not all of them

  // Rows of the first input; the other inputs have the same, but for views of keys and values.
  EnumSet<Extent> input_rows = kAnyRows;
  EnumSet<Extent> output_rows = kSameRows;
  bool same_width = false;  // the first output is as wide as the first input
  std::array<View, 3> input_views{};
  std::array<View, 2> output_views{};

  EnumSet<Place> places = kAnywhere;
  bool in_place = false;  // may write over its first input where that is not read again
  Access state = Access::none;
  Access cross = Access::none;
  Access source = Access::none;
  bool scans_cross = false;        // looks at every byte that its cross cache has room for
  bool has_cross_weights = false;  // its softmax weights can be asked for (CrossWeights)

  Status (*check)(const OpCheck&) = nullptr;  // widths and attributes; counts and indices are sound by then
  OpExample example;
};

const OpSpec& op_spec(OpKind kind);  // of a kind that is_op_kind takes
bool is_op_kind(OpKind kind);
bool op_on_devices(OpKind kind);        // otherwise it runs on the CPU only
std::string_view op_text(OpKind kind);  // what it does

// The kind with this name; another name does not compile.
consteval OpKind op_kind(std::string_view name) {
  constexpr std::string_view names[] = {
#define KVASS_OP(name, where, text) #name,
#include "program/ops.inc"
#undef KVASS_OP
  };
  uint8_t kind = 0;
  while (names[kind] != name) ++kind;
  return static_cast<OpKind>(kind);
}

}  // namespace kvass
