// A program of one op, made from what its OpSpec says: the example of its kind, with the states, cross caches and
// source that OpExample describes around it. So the tests of all operators know no operator.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "program/op_spec.h"
#include "program/program.h"
#include "program/verify_op.h"

namespace kvass::testing {

inline std::vector<OpKind> all_op_kinds() {
  std::vector<OpKind> kinds;
  for (int i = 0; is_op_kind(static_cast<OpKind>(i)); ++i) kinds.push_back(static_cast<OpKind>(i));
  return kinds;
}

inline std::vector<Extent> extents_in(EnumSet<Extent> set) {
  std::vector<Extent> extents;
  for (int i = 0; i <= static_cast<int>(Extent::sequence); ++i) {
    if (set.has(static_cast<Extent>(i))) extents.push_back(static_cast<Extent>(i));
  }
  return extents;
}

// The rows that the op can be tried on: of its first input, or of its outputs where it has no inputs.
inline std::vector<Extent> example_rows(OpKind kind) {
  const OpSpec& spec = op_spec(kind);
  return extents_in(spec.inputs.least > 0 ? spec.input_rows : spec.output_rows);
}

struct OneOp {
  OneOp(OpKind kind, Extent rows) : spec(op_spec(kind)) {
    program.rotaries.resize(1);
    program.rotaries[0].head_dim = 16;
    program.states.push_back({"state", 2, 16, 0, 0});
    program.crosses.push_back({"cross", 2, 16});
    program.source = {12, 32, 24};
    Op op;
    op.kind = kind;
    op.name = "the op";
    const OpExample& example = spec.example;
    for (size_t i = 0; i < spec.inputs.least; ++i) {
      const View view = i < spec.input_views.size() ? spec.input_views[i] : View::none;
      op.inputs.push_back(add("input " + std::to_string(i), example.inputs[i], rows, view));
    }
    while (op.weights.size() < std::min(spec.weights.most, example.weights.size()) &&
           example.weights[op.weights.size()].inputs > 0) {
      const OpExample::Shape& shape = example.weights[op.weights.size()];
      op.weights.push_back(static_cast<WeightId>(program.weights.size()));
      program.weights.push_back({"weight", shape.outputs, shape.inputs});
    }
    const std::vector<Extent> outputs = extents_in(spec.output_rows);
    const bool same = outputs.empty() || spec.output_rows.has(rows);
    for (size_t i = 0; i < (spec.output_per_weight ? op.weights.size() : spec.outputs.least); ++i) {
      const View view = i < spec.output_views.size() ? spec.output_views[i] : View::none;
      op.outputs.push_back(add("output " + std::to_string(i), example.outputs[i], same ? rows : outputs.front(), view));
    }
    if (spec.state != Access::none) op.state = 0;
    if (spec.cross != Access::none) op.cross = 0;
    for (size_t i = 0; i < spec.branches; ++i) {
      op.branches.push_back(static_cast<BranchId>(i));
      program.branches.push_back({1, 1, {}});
    }
    op.heads = example.heads;
    op.stride = example.stride;
    op.epsilon = example.epsilon;
    op.scale = example.scale;
    op.cap = example.cap;
    place = place_of(op);
    program.hidden = add("hidden", 32, Extent::chunk, View::none);
    program.logits = add("logits", 40, Extent::head, View::none);
    program.ops.push_back(std::move(op));
    program.parts.push_back({"body", 0, 1});
  }
  OneOp(const OneOp&) = delete;
  OneOp& operator=(const OneOp&) = delete;

  Op& op() { return program.ops[0]; }
  Value& input(size_t i) { return program.values[static_cast<size_t>(op().inputs[i])]; }
  Value& output(size_t i) { return program.values[static_cast<size_t>(op().outputs[i])]; }

  // What the verifier says: everything but the outputs has been written.
  std::string refused() {
    std::vector<bool> visible(program.values.size(), true), written(program.values.size(), false);
    for (ValueId id : op().outputs) {
      if (id >= 0 && static_cast<size_t>(id) < visible.size()) visible[static_cast<size_t>(id)] = false;
    }
    return verify_op(program, op(), place, visible, written).message();
  }

  const OpSpec& spec;
  Program program;
  Place place = Place::body;

 private:
  ValueId add(std::string name, int64_t width, Extent rows, View view) {
    Value value{std::move(name), width, rows, view};
    if (view != View::none) value.extent = Extent::source;
    if (view == View::keys || view == View::values) value.cross = 0;
    program.values.push_back(std::move(value));
    return static_cast<ValueId>(program.values.size() - 1);
  }

  // Where such rows are, and the op may stand.
  Place place_of(const Op& op) const {
    bool frames = false, source = false, head = false;
    for (const std::vector<ValueId>* ids : {&op.inputs, &op.outputs}) {
      for (ValueId id : *ids) {
        const Value& value = program.values[static_cast<size_t>(id)];
        frames |= value.extent == Extent::frames;
        source |= value.extent == Extent::source && value.view != View::keys && value.view != View::values;
        head |= value.extent == Extent::head;
      }
    }
    if (frames || (source && !spec.places.has(Place::one_sequence))) return Place::encode;
    return source ? Place::one_sequence : head ? Place::head : Place::body;
  }
};

}  // namespace kvass::testing
