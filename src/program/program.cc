#include "program/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace kvass {
namespace {

struct OpInfo {
  std::string_view name;
  std::string_view text;
};

constexpr OpInfo kOps[] = {
#define KVASS_OP(name, text) {#name, text},
#include "program/ops.inc"
#undef KVASS_OP
};

// Bounds sums and products of a few sizes.
constexpr int64_t kMaxWidth = int64_t{1} << 32;
constexpr int64_t kMaxHeads = int64_t{1} << 20;

std::string_view extent_name(Extent extent) {
  return extent == Extent::chunk ? "rows of the chunk" : "rows of the head";
}

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

// Verification of one op against the rules of its kind. `written` says which values exist so far.
class OpVerifier {
 public:
  OpVerifier(const Program& program, const Op& op, std::vector<bool>& written)
      : program_(program), op_(op), written_(written) {}

  Status run() {
    KVASS_RETURN_IF_ERROR(indices());
    KVASS_RETURN_IF_ERROR(kind());
    KVASS_RETURN_IF_ERROR(extents());
    for (ValueId id : op_.outputs) {
      if (written_[static_cast<size_t>(id)]) return fail("outputs", "a value that no other op writes", value(id).name);
      written_[static_cast<size_t>(id)] = true;
    }
    return {};
  }

 private:
  const Value& value(ValueId id) const { return program_.values[static_cast<size_t>(id)]; }
  const Value& in(size_t i) const { return value(op_.inputs[i]); }
  const Value& out(size_t i) const { return value(op_.outputs[i]); }
  const Weight& weight(size_t i) const { return program_.weights[static_cast<size_t>(op_.weights[i])]; }

  Status fail(std::string_view field, std::string_view expected, std::string_view got) const {
    return bad_input(fmt::format("program op '{}' ({}): {}", op_.name, op_kind_name(op_.kind), field), expected, got);
  }
  Status arity(size_t inputs, size_t outputs, size_t weights) const {
    if (op_.inputs.size() == inputs && op_.outputs.size() == outputs && op_.weights.size() == weights) return {};
    return fail("arity", fmt::format("{} inputs, {} outputs, {} weights", inputs, outputs, weights),
                fmt::format("{}, {}, {}", op_.inputs.size(), op_.outputs.size(), op_.weights.size()));
  }
  Status width(std::string_view what, int64_t expected, int64_t got) const {
    if (expected == got) return {};
    return fail(what, fmt::format("width {}", expected), fmt::format("{}", got));
  }

  // Weight i is a matrix, or a vector.
  Status weight_kind(size_t i, bool matrix) const {
    if ((weight(i).outputs > 0) == matrix) return {};
    return fail("weight", matrix ? "a matrix" : "a vector", fmt::format("{} outputs", weight(i).outputs));
  }
  Status extent(const Value& value, Extent expected) const {
    if (value.extent == expected) return {};
    return fail(fmt::format("value '{}'", value.name), extent_name(expected), extent_name(value.extent));
  }

  // Rows match: only `embed` makes rows of the chunk, and only `select_rows` leads from them to rows of the head.
  Status extents() const {
    const bool chunk = op_.kind == OpKind::embed || op_.kind == OpKind::cache_write || op_.kind == OpKind::attention ||
                       op_.kind == OpKind::select_rows;
    const Extent from = chunk || op_.inputs.empty() ? Extent::chunk : in(0).extent;
    for (ValueId id : op_.inputs) KVASS_RETURN_IF_ERROR(extent(value(id), from));
    for (ValueId id : op_.outputs) {
      KVASS_RETURN_IF_ERROR(extent(value(id), op_.kind == OpKind::select_rows ? Extent::head : from));
    }
    return {};
  }

  Status indices() const {
    for (ValueId id : op_.inputs) {
      if (id < 0 || static_cast<size_t>(id) >= program_.values.size())
        return fail("inputs", "a value of the program", fmt::format("{}", id));
      if (!written_[static_cast<size_t>(id)]) return fail("inputs", "a value that was written before", value(id).name);
    }
    for (ValueId id : op_.outputs) {
      if (id < 0 || static_cast<size_t>(id) >= program_.values.size())
        return fail("outputs", "a value of the program", fmt::format("{}", id));
    }
    for (WeightId id : op_.weights) {
      if (id < 0 || static_cast<size_t>(id) >= program_.weights.size())
        return fail("weights", "a weight of the program", fmt::format("{}", id));
    }
    const bool stateful = op_.kind == OpKind::cache_write || op_.kind == OpKind::attention;
    if (stateful && (op_.state < 0 || static_cast<size_t>(op_.state) >= program_.states.size())) {
      return fail("state", "a state of the program", fmt::format("{}", op_.state));
    }
    return {};
  }

  Status kind() const {
    switch (op_.kind) {
      case OpKind::embed:
        KVASS_RETURN_IF_ERROR(arity(0, 1, 1));
        KVASS_RETURN_IF_ERROR(weight_kind(0, true));
        return width("output", weight(0).inputs, out(0).width);
      case OpKind::rms_norm:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 1));
        KVASS_RETURN_IF_ERROR(weight_kind(0, false));
        if (op_.heads < 1 || op_.heads > kMaxHeads) return fail("heads", "1 to 2^20", fmt::format("{}", op_.heads));
        KVASS_RETURN_IF_ERROR(width("input", weight(0).inputs * op_.heads, in(0).width));
        return width("output", in(0).width, out(0).width);
      case OpKind::linear:
        if (op_.weights.empty() || op_.weights.size() > kMaxLinearWeights) {
          return fail("weights", fmt::format("1 to {}", kMaxLinearWeights), fmt::format("{}", op_.weights.size()));
        }
        KVASS_RETURN_IF_ERROR(arity(1, op_.weights.size(), op_.weights.size()));
        for (size_t i = 0; i < op_.weights.size(); ++i) {
          KVASS_RETURN_IF_ERROR(weight_kind(i, true));
          KVASS_RETURN_IF_ERROR(width("input", weight(i).inputs, in(0).width));
          KVASS_RETURN_IF_ERROR(width("output", weight(i).outputs, out(i).width));
        }
        return {};
      case OpKind::cache_write: {
        KVASS_RETURN_IF_ERROR(arity(2, 0, 0));
        const CacheState& state = program_.states[static_cast<size_t>(op_.state)];
        KVASS_RETURN_IF_ERROR(width("k", state.kv_heads * state.head_dim, in(0).width));
        return width("v", state.kv_heads * state.head_dim, in(1).width);
      }
      case OpKind::attention: {
        KVASS_RETURN_IF_ERROR(arity(1, 1, 0));
        const CacheState& state = program_.states[static_cast<size_t>(op_.state)];
        if (op_.heads < 1 || op_.heads > kMaxHeads || op_.heads % state.kv_heads != 0) {
          return fail("heads", fmt::format("a multiple of {} KV heads", state.kv_heads), fmt::format("{}", op_.heads));
        }
        KVASS_RETURN_IF_ERROR(width("q", op_.heads * state.head_dim, in(0).width));
        return width("output", in(0).width, out(0).width);
      }
      case OpKind::gelu_gate:
      case OpKind::silu_gate:
      case OpKind::add:
        KVASS_RETURN_IF_ERROR(arity(2, 1, 0));
        KVASS_RETURN_IF_ERROR(width("second input", in(0).width, in(1).width));
        return width("output", in(0).width, out(0).width);
      case OpKind::bias:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 1));
        KVASS_RETURN_IF_ERROR(weight_kind(0, false));
        KVASS_RETURN_IF_ERROR(width("input", weight(0).inputs, in(0).width));
        return width("output", in(0).width, out(0).width);
      case OpKind::select_rows:
      case OpKind::softcap:
        KVASS_RETURN_IF_ERROR(arity(1, 1, 0));
        return width("output", in(0).width, out(0).width);
    }
    return fail("kind", "an operator of this version", fmt::format("{}", static_cast<int>(op_.kind)));
  }

  const Program& program_;
  const Op& op_;
  std::vector<bool>& written_;
};

}  // namespace

std::string_view op_kind_name(OpKind kind) {
  return static_cast<size_t>(kind) < std::size(kOps) ? kOps[static_cast<size_t>(kind)].name : "unknown";
}

const Method* Program::find_method(std::string_view name) const {
  for (const Method& method : methods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

Status verify_program(const Program& program) {
  int32_t next = 0;
  for (const Method& method : program.methods) {
    if (method.begin != next || method.end < method.begin) {
      return bad_input("program method '" + method.name + "'", "ops that follow the method before it",
                       fmt::format("[{}, {})", method.begin, method.end));
    }
    next = method.end;
  }
  if (static_cast<size_t>(next) != program.ops.size()) {
    return bad_input("program methods", "every op in one method",
                     fmt::format("{} of {} ops", next, program.ops.size()));
  }
  for (std::string_view name : {"body", "head"}) {
    if (program.find_method(name) == nullptr)
      return bad_input("program methods", "`body` and `head`", "no `" + std::string(name) + "`");
  }
  for (const Weight& weight : program.weights) {
    if (weight.outputs < 0 || weight.outputs > kMaxWidth || weight.inputs < 1 || weight.inputs > kMaxWidth) {
      return bad_input("program weight '" + weight.name + "'", "sizes up to 2^32",
                       fmt::format("{} x {}", weight.outputs, weight.inputs));
    }
  }
  for (const CacheState& state : program.states) {
    if (state.kv_heads < 1 || state.kv_heads > kMaxHeads || state.head_dim < 16 || state.head_dim > kMaxWidth ||
        state.head_dim % 16 != 0 || state.window < 0 || state.rotary < 0 ||
        static_cast<size_t>(state.rotary) >= program.rotaries.size()) {
      return bad_input(
          "program state '" + state.name + "'",
          "KV heads, a head size that is a multiple of 16, a window and a rotary table",
          fmt::format("{} x {}, window {}, rotary {}", state.kv_heads, state.head_dim, state.window, state.rotary));
    }
  }
  for (const CacheState& state : program.states) {
    const RotaryParams& rotary = program.rotaries[static_cast<size_t>(state.rotary)];
    if (rotary.head_dim != state.head_dim) {
      return bad_input("program state '" + state.name + "'",
                       fmt::format("a rotary table of its head size {}", state.head_dim),
                       fmt::format("{}", rotary.head_dim));
    }
  }
  std::vector<bool> written(program.values.size(), false);
  for (const Op& op : program.ops) KVASS_RETURN_IF_ERROR(OpVerifier(program, op, written).run());
  for (const auto& [result, extent] :
       {std::pair(program.hidden, Extent::chunk), std::pair(program.logits, Extent::head)}) {
    if (result < 0 || static_cast<size_t>(result) >= written.size() || !written[static_cast<size_t>(result)]) {
      return bad_input("program result", "a value that an op writes", fmt::format("{}", result));
    }
    if (program.values[static_cast<size_t>(result)].extent != extent) {
      return bad_input("program result", extent_name(extent),
                       extent_name(program.values[static_cast<size_t>(result)].extent));
    }
  }
  return {};
}

std::string print_program(const Program& program) {
  std::string text;
  auto out = std::back_inserter(text);
  const auto list = [&](const std::vector<ValueId>& ids) {
    std::string names;
    for (ValueId id : ids) {
      const Value& value = program.values[static_cast<size_t>(id)];
      fmt::format_to(std::back_inserter(names), "{}%{}[{}]", names.empty() ? "" : ", ", id, value.width);
    }
    return names;
  };
  for (size_t i = 0; i < program.rotaries.size(); ++i) {
    fmt::format_to(out, "rotary {} {}\n", i, describe(program.rotaries[i]));
  }
  for (const Method& method : program.methods) {
    fmt::format_to(out, "method {}\n", method.name);
    for (int32_t i = method.begin; i < method.end; ++i) {
      const Op& op = program.ops[static_cast<size_t>(i)];
      fmt::format_to(out, "  {:4} {:12} {} -> {}", i, op_kind_name(op.kind), list(op.inputs), list(op.outputs));
      for (WeightId id : op.weights) fmt::format_to(out, " {}", program.weights[static_cast<size_t>(id)].name);
      if (op.state != kNone) fmt::format_to(out, " state {}", program.states[static_cast<size_t>(op.state)].name);
      fmt::format_to(out, "   ; {}\n", op.name);
    }
  }
  return text;
}

}  // namespace kvass
