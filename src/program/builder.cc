#include "program/builder.h"

#include <cassert>
#include <utility>

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

void ProgramBuilder::begin_method(std::string name) {
  if (!program_.methods.empty()) program_.methods.back().end = static_cast<int32_t>(program_.ops.size());
  program_.methods.push_back({std::move(name), static_cast<int32_t>(program_.ops.size()), 0});
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
  assert(!program_.methods.empty());
  Op op;
  op.kind = kind;
  op.name = scope_.empty() ? name : scope_ + " " + name;
  op.inputs = std::move(inputs);
  program_.ops.push_back(std::move(op));
  return program_.ops.back();
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

Program ProgramBuilder::finish() && {
  assert(!program_.methods.empty());
  program_.methods.back().end = static_cast<int32_t>(program_.ops.size());
  return std::move(program_);
}

}  // namespace kvass
