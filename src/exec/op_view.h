// One op of a program in a step, as its code on the CPU sees it: typed pointers to the rows that it reads and writes,
// its weights, its workspace. Owns nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "exec/context.h"
#include "program/op_spec.h"

namespace kvass {

// What the views of every backend have.
class OpPlace {
 public:
  OpPlace(const ExecContext& context, const Op& op, size_t index) : context_(context), op_(op), index_(index) {}

  const Program& program() const { return context_.model.program; }
  const Op& op() const { return op_; }
  Frame& frame() const { return context_.frame; }
  const Value& input(size_t i = 0) const { return value(op_.inputs[i]); }
  const Value& output(size_t i = 0) const { return value(op_.outputs[i]); }
  // Of a product with input i.
  Math math(size_t i = 0) const { return math_of(context_.model.math, input(i)); }
  void* workspace() const { return context_.arena + context_.plan.workspace[index_]; }
  // Rotary pairs of the op's state are neighbours, not halves.
  bool interleaved() const {
    const RotaryId rotary = program().states[static_cast<size_t>(op_.state)].rotary;
    return rotary != kNone && program().rotaries[static_cast<size_t>(rotary)].interleaved;
  }

 protected:
  const Value& value(ValueId id) const { return program().values[static_cast<size_t>(id)]; }
  // All rows of a value, those of runs that are not active too.
  float* in_arena(ValueId id) const {
    return reinterpret_cast<float*>(context_.arena + context_.plan.values[static_cast<size_t>(id)]);
  }

  const ExecContext& context_;
  const Op& op_;
  const size_t index_;  // of the op in the program
};

class OpView : public OpPlace {
 public:
  using OpPlace::OpPlace;

  int64_t input_rows(size_t i = 0) const { return frame().rows_of(input(i).extent); }
  int64_t rows(size_t i = 0) const { return frame().rows_of(output(i).extent); }
  int64_t width(size_t i = 0) const { return output(i).width; }
  // The rows of the active runs.
  const float* in(size_t i = 0) const { return first_row(op_.inputs[i]); }
  float* out(size_t i = 0) const { return first_row(op_.outputs[i]); }
  // All rows of the step.
  const float* all_in(size_t i = 0) const { return all(op_.inputs[i]); }
  float* all_out(size_t i = 0) const { return all(op_.outputs[i]); }

  const PackedWeight& matrix(size_t i = 0) const {
    return context_.model.weights.matrices[static_cast<size_t>(op_.weights[i])];
  }
  const float* vector(size_t i = 0) const {
    return context_.model.weights.vectors[static_cast<size_t>(op_.weights[i])];
  }

  Isa isa() const { return context_.model.isa; }
  ThreadPool& pool() const { return context_.pool; }
  const EncoderInput& encoder_input() const { return *context_.input; }
  const CrossWeights& cross_weights() const { return context_.cross_weights; }
  int64_t most_rows() const { return context_.most_rows; }

  // body(first row, row count) over the rows of the first output, on all threads.
  template <class Body>
  void for_rows(Body&& body) const {
    constexpr int64_t kTaskRows = 8;
    const int64_t count = rows();
    pool().run((count + kTaskRows - 1) / kTaskRows, [&](int64_t task, int thread) {
      const int64_t first = task * kTaskRows;
      if constexpr (requires { body(first, first, thread); }) {
        body(first, std::min(kTaskRows, count - first), thread);
      } else {
        body(first, std::min(kTaskRows, count - first));
      }
    });
  }

 private:
  float* all(ValueId id) const { return value(id).view == View::source ? frame().only_run().source : in_arena(id); }
  float* first_row(ValueId id) const { return all(id) + frame().first_of(value(id).extent) * value(id).width; }
};

}  // namespace kvass
