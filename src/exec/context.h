// What an op of a program runs with: the program and its weights, the frame of the step, and where values lie. Owns
// nothing.
#pragma once

#include <cstdint>
#include <span>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "exec/frame.h"
#include "exec/observer.h"
#include "ops/linear/linear.h"
#include "ops/linear/weight_store.h"
#include "plan/arena.h"
#include "program/program.h"

namespace kvass {

struct DeviceWeights;

// A program with everything about it that does not change while it runs.
struct ExecModel {
  const Program& program;
  const WeightStore& weights;
  std::span<const Rotary> rotaries;  // [rotaries of the program]
  Math math = Math::a16;
  Isa isa = Isa::scalar;
  const DeviceWeights* device = nullptr;  // null: it runs on the CPU
};

struct ExecContext {
  const ExecModel& model;
  Frame& frame;
  const ArenaPlan& plan;
  uint8_t* arena;  // values and workspaces, where the ops run
  ThreadPool& pool;
  const EncoderInput* input = nullptr;  // of an encode
  CrossWeights cross_weights;
  int64_t most_rows = 0;  // of a step
};

// The arithmetic of a product with `x`. The vocabulary head keeps 16-bit activations under `--math a8`: it is bound by
// reading its weights, so they cost next to nothing there, and its error goes straight into the logits.
constexpr Math math_of(Math math, const Value& x) {
  return x.extent == Extent::head && math == Math::a8 ? Math::a16 : math;
}

}  // namespace kvass
