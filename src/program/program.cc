#include "program/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>

#include "program/fields.h"

namespace kvass {
namespace {

static_assert(kFieldCount<RotaryParams> == 7 && kFieldCount<YarnParams> == 4, "each is printed here");
// What a rotary embedding is, in one line; what is left at its neutral value is not said.
std::string describe(const RotaryParams& rotary) {
  std::string text = fmt::format("head size {}, {}, base {:g}", rotary.head_dim,
                                 rotary.interleaved ? "neighbours" : "halves", rotary.base);
  auto out = std::back_inserter(text);
  if (rotary.factor != 1.0) fmt::format_to(out, ", factor {:g}", rotary.factor);
  if (!rotary.divisors.empty()) {
    const auto [least, most] = std::minmax_element(rotary.divisors.begin(), rotary.divisors.end());
    fmt::format_to(out, ", frequencies divided by {:g} to {:g}", *least, *most);
  }
  if (rotary.attention_factor != 1.0) fmt::format_to(out, ", attention factor {:g}", rotary.attention_factor);
  const YarnParams& yarn = rotary.yarn;
  if (yarn.context != 0.0) {
    fmt::format_to(out, ", YaRN from {:g} tokens, beta {:g} to {:g}, extrapolation {:g}", yarn.context, yarn.beta_fast,
                   yarn.beta_slow, yarn.extrapolation);
  }
  return text;
}

std::string list_values(const Program& program, const std::vector<ValueId>& ids) {
  std::string names;
  for (ValueId id : ids) {
    const Value& value = program.values[static_cast<size_t>(id)];
    fmt::format_to(std::back_inserter(names), "{}{}%{}[{}]", names.empty() ? "" : ", ",
                   value.view == View::none ? "" : "&", id, value.width);
  }
  return names;
}

// The numbers of an op that are not those of a new one; an int32_t is no number but an index.
void print_numbers(const Op& op, std::back_insert_iterator<std::string> out) {
  for_each_field(op, Op(), [&](const Field& field, const auto& value, const auto& of_new) {
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, float>) {
      if (value != of_new) fmt::format_to(out, " {} {}", field.name, value);
    } else {
      static_assert(!std::is_arithmetic_v<T> || std::is_same_v<T, int32_t>, "a number of a type that is not printed");
    }
  });
}

// Ops [begin, end), those of branches indented under their cond. A `&` marks a view.
void print_ops(const Program& program, int32_t begin, int32_t end, int depth,
               std::back_insert_iterator<std::string> out) {
  for (int32_t i = begin; i < end; ++i) {
    const Op& op = program.ops[static_cast<size_t>(i)];
    fmt::format_to(out, "{:{}}{:4} {:12} {} -> {}", "", 2 * depth, i, op_kind_name(op.kind),
                   list_values(program, op.inputs), list_values(program, op.outputs));
    for (WeightId id : op.weights) fmt::format_to(out, " {}", program.weights[static_cast<size_t>(id)].name);
    if (op.state != kNone) fmt::format_to(out, " state {}", program.states[static_cast<size_t>(op.state)].name);
    if (op.cross != kNone) fmt::format_to(out, " state {}", program.crosses[static_cast<size_t>(op.cross)].name);
    print_numbers(op, out);
    fmt::format_to(out, "   ; {}\n", op.name);
    for (size_t branch = 0; branch < op.branches.size(); ++branch) {
      const Branch& ops = program.branches[static_cast<size_t>(op.branches[branch])];
      fmt::format_to(out, "{:{}}{}\n", "", 2 * depth + 5, branch == 0 ? "then" : "else");
      print_ops(program, ops.begin, ops.end, depth + 3, out);
      fmt::format_to(out, "{:{}}-> {}\n", "", 2 * depth + 11, list_values(program, ops.results));
      i = ops.end - 1;
    }
  }
}

}  // namespace

std::string_view extent_name(Extent extent) {
  switch (extent) {
    case Extent::chunk:
      return "rows of the chunk";
    case Extent::head:
      return "rows of the head";
    case Extent::frames:
      return "rows of the encoder's input";
    case Extent::source:
      return "source rows";
    case Extent::sequence:
      return "a row a sequence";
  }
  return "unknown rows";
}

const Part* Program::find_part(std::string_view name) const {
  for (const Part& part : parts) {
    if (part.name == name) return &part;
  }
  return nullptr;
}

ValueId Program::argmax() const {
  const Part* greedy = find_part("greedy");
  if (!greedy || greedy->begin == greedy->end) return kNone;
  const std::vector<ValueId>& outputs = ops[static_cast<size_t>(greedy->end - 1)].outputs;
  return outputs.size() == 1 ? outputs[0] : kNone;
}

WeightId Program::head_weight() const {
  for (const Op& op : ops) {
    if (op.kind == OpKind::linear && op.outputs.size() == 1 && op.outputs[0] == logits) return op.weights[0];
  }
  return kNone;
}

const Op* Program::input() const {
  for (const Op& op : ops) {
    if (op.kind == OpKind::input) return &op;
  }
  return nullptr;
}

int64_t Program::max_positions() const {
  int64_t most = 0;
  for (const Op& op : ops) {
    if (op.kind != OpKind::positions || values[static_cast<size_t>(op.outputs[0])].extent != Extent::chunk) continue;
    const int64_t rows = weights[static_cast<size_t>(op.weights[0])].outputs;
    most = most == 0 ? rows : std::min(most, rows);
  }
  return most;
}

bool Program::one_sequence(const Branch& branch) const {
  const auto of_source = [&](ValueId id) {
    const Value& value = values[static_cast<size_t>(id)];
    return (value.extent == Extent::frames || value.extent == Extent::source) && value.view != View::keys &&
           value.view != View::values;
  };
  for (int32_t i = branch.begin; i < branch.end; ++i) {
    const Op& op = ops[static_cast<size_t>(i)];
    if (std::any_of(op.inputs.begin(), op.inputs.end(), of_source)) return true;
    if (std::any_of(op.outputs.begin(), op.outputs.end(), of_source)) return true;
  }
  return false;
}

std::string print_program(const Program& program) {
  std::string text;
  auto out = std::back_inserter(text);
  for (size_t i = 0; i < program.rotaries.size(); ++i) {
    fmt::format_to(out, "rotary {} {}\n", i, describe(program.rotaries[i]));
  }
  for (const Part& part : program.parts) {
    fmt::format_to(out, "part {}\n", part.name);
    print_ops(program, part.begin, part.end, 1, out);
  }
  return text;
}

}  // namespace kvass
