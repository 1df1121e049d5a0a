#include "program/builder.h"

#include <cassert>
#include <utility>

#include "program/greedy.h"
#include "program/op_spec.h"

namespace kvass {

WeightId ProgramBuilder::matrix(std::string name, int64_t outputs, int64_t inputs) {
  program_.weights.push_back({std::move(name), outputs, inputs});
  return static_cast<WeightId>(program_.weights.size() - 1);
}

WeightId ProgramBuilder::vector(std::string name, int64_t width) { return matrix(std::move(name), 0, width); }

RotaryId ProgramBuilder::rotary(const RotaryParams& params) {
  for (size_t i = 0; i < program_.rotaries.size(); ++i) {
    if (program_.rotaries[i] == params) return static_cast<RotaryId>(i);
  }
  program_.rotaries.push_back(params);
  return static_cast<RotaryId>(program_.rotaries.size() - 1);
}

StateId ProgramBuilder::cache(std::string name, int64_t kv_heads, int64_t head_dim, int64_t window, RotaryId rotary) {
  program_.states.push_back({std::move(name), kv_heads, head_dim, window, rotary});
  return static_cast<StateId>(program_.states.size() - 1);
}

void ProgramBuilder::begin_part(std::string name) {
  if (!program_.parts.empty()) program_.parts.back().end = static_cast<int32_t>(program_.ops.size());
  program_.parts.push_back({std::move(name), static_cast<int32_t>(program_.ops.size()), 0});
  scope_.clear();
}

const Value& ProgramBuilder::at(ValueId id) const { return program_.values[static_cast<size_t>(id)]; }

ValueId ProgramBuilder::value(const std::string& name, int64_t width, Extent extent) {
  program_.values.push_back({scope_.empty() ? name : scope_ + " " + name, width, extent});
  const ValueId id = static_cast<ValueId>(program_.values.size() - 1);
  program_.ops.back().outputs.push_back(id);
  return id;
}

Op& ProgramBuilder::op(OpKind kind, const std::string& name, std::vector<ValueId> inputs) {
  assert(!program_.parts.empty());
  Op op;
  op.kind = kind;
  op.name = scope_.empty() ? name : scope_ + " " + name;
  op.inputs = std::move(inputs);
  program_.ops.push_back(std::move(op));
  return program_.ops.back();
}

std::vector<ValueId> ProgramBuilder::emit(Op made, std::span<const int64_t> widths) {
  const EnumSet<Extent> rows = op_spec(made.kind).output_rows;
  Extent extent = made.inputs.empty() ? Extent::chunk : at(made.inputs[0]).extent;
  for (int i = 0; !rows.empty() && !rows.has(extent) && i <= static_cast<int>(Extent::sequence); ++i) {
    if (rows.has(static_cast<Extent>(i))) extent = static_cast<Extent>(i);
  }
  const std::string name = made.name;
  Op& added = op(made.kind, name, {});
  made.name = added.name;
  made.outputs.clear();
  added = std::move(made);
  std::vector<ValueId> values;
  for (int64_t width : widths) values.push_back(value(name, width, extent));
  return values;
}

ValueId ProgramBuilder::embed(WeightId table, float scale) {
  Op& embed = op(OpKind::embed, "embedding", {});
  embed.weights = {table};
  embed.scale = scale;
  return value("embedding", program_.weights[static_cast<size_t>(table)].inputs, Extent::chunk);
}

ValueId ProgramBuilder::rms_norm(std::string name, ValueId x, WeightId weight, float epsilon, int64_t heads) {
  Op& norm = op(OpKind::rms_norm, name, {x});
  norm.weights = {weight};
  norm.epsilon = epsilon;
  norm.heads = heads;
  return value(name, at(x).width, at(x).extent);
}

std::vector<ValueId> ProgramBuilder::linear(std::string name, ValueId x, std::span<const WeightId> weights,
                                            std::span<const std::string> outputs) {
  assert(weights.size() == outputs.size());
  Op& linear = op(OpKind::linear, name, {x});
  linear.weights.assign(weights.begin(), weights.end());
  std::vector<ValueId> values;
  for (size_t i = 0; i < weights.size(); ++i) {
    values.push_back(value(outputs[i], program_.weights[static_cast<size_t>(weights[i])].outputs, at(x).extent));
  }
  return values;
}

ValueId ProgramBuilder::linear(std::string name, ValueId x, WeightId weight) {
  return linear(name, x, std::span(&weight, 1), std::span<const std::string>(&name, 1))[0];
}

void ProgramBuilder::cache_write(ValueId k, ValueId v, StateId state) {
  op(OpKind::cache_write, "cache write", {k, v}).state = state;
}

ValueId ProgramBuilder::attention(ValueId q, StateId state, int64_t heads, float scale, float cap) {
  Op& attention = op(OpKind::attention, "attention", {q});
  attention.state = state;
  attention.heads = heads;
  attention.scale = scale;
  attention.cap = cap;
  return value("attention", at(q).width, at(q).extent);
}

ValueId ProgramBuilder::gelu_gate(ValueId gate, ValueId up) {
  op(OpKind::gelu_gate, "gelu gate", {gate, up});
  return value("gelu gate", at(gate).width, at(gate).extent);
}

ValueId ProgramBuilder::silu_gate(ValueId gate, ValueId up) {
  op(OpKind::silu_gate, "silu gate", {gate, up});
  return value("silu gate", at(gate).width, at(gate).extent);
}

ValueId ProgramBuilder::bias(std::string name, ValueId x, WeightId weight) {
  op(OpKind::bias, name, {x}).weights = {weight};
  return value(name, at(x).width, at(x).extent);
}

ValueId ProgramBuilder::add(std::string name, ValueId a, ValueId b) {
  op(OpKind::add, name, {a, b});
  return value(name, at(a).width, at(a).extent);
}

ValueId ProgramBuilder::select_rows(ValueId x) {
  op(OpKind::select_rows, "select rows", {x});
  return value("selected rows", at(x).width, Extent::head);
}

ValueId ProgramBuilder::softcap(ValueId x, float cap) {
  op(OpKind::softcap, "softcap", {x}).cap = cap;
  return value("softcap", at(x).width, at(x).extent);
}

CrossId ProgramBuilder::cross_cache(std::string name, int64_t kv_heads, int64_t head_dim) {
  program_.crosses.push_back({std::move(name), kv_heads, head_dim});
  return static_cast<CrossId>(program_.crosses.size() - 1);
}

ValueId ProgramBuilder::view(const std::string& name, int64_t width, View of, CrossId cross) {
  const ValueId id = value(name, width, Extent::source);
  program_.values.back().view = of;
  program_.values.back().cross = cross;
  return id;
}

ProgramBuilder::Keys ProgramBuilder::views(const std::string& name, CrossId cross) {
  const CrossState& state = program_.crosses[static_cast<size_t>(cross)];
  const int64_t width = state.kv_heads * state.head_dim;
  program_.ops.back().cross = cross;
  const ValueId k = view(name + " k", width, View::keys, cross);
  return {k, view(name + " v", width, View::values, cross)};
}

ValueId ProgramBuilder::copy(std::string name, ValueId x) {
  op(OpKind::copy, name, {x});
  return value(name, at(x).width, at(x).extent);
}

ValueId ProgramBuilder::gelu(ValueId x) {
  op(OpKind::gelu, "gelu", {x});
  return value("gelu", at(x).width, at(x).extent);
}

ValueId ProgramBuilder::layer_norm(std::string name, ValueId x, WeightId weight, WeightId bias, float epsilon) {
  Op& norm = op(OpKind::layer_norm, name, {x});
  norm.weights = {weight, bias};
  norm.epsilon = epsilon;
  return value(name, at(x).width, at(x).extent);
}

ValueId ProgramBuilder::positions(ValueId x, WeightId table) {
  op(OpKind::positions, "positions", {x}).weights = {table};
  return value("positions", at(x).width, at(x).extent);
}

ValueId ProgramBuilder::input(int64_t width, Extent extent) {
  op(OpKind::input, "input", {});
  return value("input", width, extent);
}

ValueId ProgramBuilder::conv1d(std::string name, ValueId x, WeightId weight, int64_t stride) {
  Op& conv = op(OpKind::conv1d, name, {x});
  conv.weights = {weight};
  conv.stride = stride;
  return value(name, program_.weights[static_cast<size_t>(weight)].outputs,
               stride == 1 ? at(x).extent : Extent::source);
}

ValueId ProgramBuilder::attend_rows(ValueId q, ValueId k, ValueId v, int64_t heads, float scale) {
  Op& attention = op(OpKind::attend_rows, "attention", {q, k, v});
  attention.heads = heads;
  attention.scale = scale;
  return value("attention", at(q).width, at(q).extent);
}

void ProgramBuilder::store_source(ValueId x) { op(OpKind::store_source, "store source", {x}); }

ValueId ProgramBuilder::source() {
  op(OpKind::source, "source", {});
  return view("source", program_.source.width, View::source, kNone);
}

ValueId ProgramBuilder::is_initialised(CrossId cross) {
  op(OpKind::is_initialised, "is initialised", {}).cross = cross;
  return value("is initialised", 1, Extent::sequence);
}

ValueId ProgramBuilder::any_nonzero(CrossId cross) {
  op(OpKind::any_nonzero, "any nonzero", {}).cross = cross;
  return value("any nonzero", 1, Extent::sequence);
}

ProgramBuilder::Keys ProgramBuilder::alias(CrossId cross) {
  op(OpKind::alias, "alias", {});
  return views("alias", cross);
}

ProgramBuilder::Keys ProgramBuilder::update_cross_attn_cache(ValueId k, ValueId v, CrossId cross) {
  op(OpKind::update_cross_attn_cache, "update cross cache", {k, v});
  return views("updated", cross);
}

ValueId ProgramBuilder::cross_attention(ValueId q, const Keys& keys, int64_t heads, float scale) {
  Op& attention = op(OpKind::cross_attention, "cross attention", {q, keys.k, keys.v});
  attention.cross = at(keys.k).cross;
  attention.heads = heads;
  attention.scale = scale;
  return value("cross attention", at(q).width, at(q).extent);
}

size_t ProgramBuilder::begin_cond(const std::string& name, ValueId predicate) {
  op(OpKind::cond, name, {predicate});
  return program_.ops.size() - 1;
}

void ProgramBuilder::begin_branch(size_t cond) {
  program_.ops[cond].branches.push_back(static_cast<BranchId>(program_.branches.size()));
  program_.branches.push_back({static_cast<int32_t>(program_.ops.size()), 0, {}});
}

void ProgramBuilder::end_branch(size_t cond, std::vector<ValueId> results) {
  const size_t id = static_cast<size_t>(program_.ops[cond].branches.back());
  for (ValueId& result : results) {
    bool written_here = false;
    for (size_t i = static_cast<size_t>(program_.branches[id].begin); i < program_.ops.size(); ++i) {
      for (ValueId output : program_.ops[i].outputs) written_here |= output == result;
    }
    if (!written_here) result = copy(at(result).name, result);
  }
  program_.branches[id].end = static_cast<int32_t>(program_.ops.size());
  program_.branches[id].results = std::move(results);
}

std::vector<ValueId> ProgramBuilder::end_cond(size_t cond) {
  const std::vector<ValueId> results = program_.branches[static_cast<size_t>(program_.ops[cond].branches[0])].results;
  std::vector<ValueId> outputs;
  for (ValueId result : results) {
    Value output = at(result);
    output.name = program_.ops[cond].name;
    program_.values.push_back(std::move(output));
    outputs.push_back(static_cast<ValueId>(program_.values.size() - 1));
  }
  program_.ops[cond].outputs = outputs;
  return outputs;
}

Program ProgramBuilder::finish() && {
  assert(!program_.parts.empty());
  program_.parts.back().end = static_cast<int32_t>(program_.ops.size());
  add_greedy(program_);
  return std::move(program_);
}

}  // namespace kvass
