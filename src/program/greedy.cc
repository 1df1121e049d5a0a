#include "program/greedy.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace kvass {
namespace {

constexpr std::string_view kGreedy = "greedy";

ValueId add_value(Program& program, Value value) {
  program.values.push_back(std::move(value));
  return static_cast<ValueId>(program.values.size() - 1);
}

}  // namespace

void add_greedy(Program& program) {
  const Part* head = program.find_part("head");
  if (program.find_part(kGreedy) || !head || program.logits == kNone) return;
  const int32_t begin = head->begin, end = head->end;
  const auto first = static_cast<int32_t>(program.ops.size());
  std::vector<ValueId> own(program.values.size());  // of a value of `head`, that of `greedy`
  std::iota(own.begin(), own.end(), 0);
  bool found = false;
  for (int32_t i = begin; i < end; ++i) {
    Op op = program.ops[static_cast<size_t>(i)];
    for (ValueId& id : op.inputs) id = own[static_cast<size_t>(id)];
    const bool last = i + 1 == end && op.outputs.size() == 1 && op.outputs[0] == program.logits;
    if (last && op.kind == OpKind::linear) {
      op.kind = OpKind::argmax_linear;
      op.outputs = {add_value(program, {"argmax", kArgmaxFloats, Extent::head})};
      found = true;
    } else {
      for (ValueId& id : op.outputs) {
        id = own[static_cast<size_t>(id)] = add_value(program, program.values[static_cast<size_t>(id)]);
      }
    }
    program.ops.push_back(std::move(op));
  }
  if (!found) {
    Op argmax;
    argmax.kind = OpKind::argmax;
    argmax.name = "argmax";
    argmax.inputs = {own[static_cast<size_t>(program.logits)]};
    argmax.outputs = {add_value(program, {"argmax", kArgmaxFloats, Extent::head})};
    program.ops.push_back(std::move(argmax));
  }
  program.parts.push_back({std::string(kGreedy), first, static_cast<int32_t>(program.ops.size())});
}

Program without_greedy(Program program) {
  if (program.parts.empty() || program.parts.back().name != kGreedy) return program;
  const int32_t begin = program.parts.back().begin;
  // Its values are the last ones, unless somebody else made the part: then it stays.
  size_t count = 0;
  auto least = static_cast<ValueId>(program.values.size());
  for (size_t i = static_cast<size_t>(begin); i < program.ops.size(); ++i) {
    for (ValueId id : program.ops[i].outputs) least = std::min(least, id);
    count += program.ops[i].outputs.size();
  }
  if (static_cast<size_t>(least) + count != program.values.size()) return program;
  program.values.resize(static_cast<size_t>(least));
  program.ops.resize(static_cast<size_t>(begin));
  program.parts.pop_back();
  return program;
}

}  // namespace kvass
