// An op of a program in a step, as the ops of every executor see it: what it reads and writes and where that lies in
// the session's arena, on whichever device. Owns nothing.
#pragma once

#include <cstddef>

#include "session/step.h"

namespace kvass {

class StepOp {
 protected:
  StepOp(const StepContext& context, const Op& op, size_t index) : context_(context), op_(op), index_(index) {}

  const Program& program() const { return context_.engine.program(); }
  const Value& info(ValueId id) const { return program().values[static_cast<size_t>(id)]; }
  // All rows of a value of the arena.
  float* in_arena(ValueId id) const {
    return reinterpret_cast<float*>(context_.arena + context_.plan.values[static_cast<size_t>(id)]);
  }
  void* workspace() const { return context_.arena + context_.plan.workspace[index_]; }
  // Of the rotary embedding of the op's state.
  bool interleaved() const {
    const RotaryId rotary = program().states[static_cast<size_t>(op_.state)].rotary;
    return rotary != kNone && program().rotaries[static_cast<size_t>(rotary)].interleaved;
  }

  const StepContext& context_;
  const Op& op_;
  const size_t index_;  // of the op in the program
};

}  // namespace kvass
