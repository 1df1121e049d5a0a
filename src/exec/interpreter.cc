#include "exec/interpreter.h"

#include <chrono>

#include "program/op_spec.h"

namespace kvass {
namespace {

int64_t now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

float* value_of(const ExecContext& context, ValueId id) {
  return reinterpret_cast<float*>(context.arena + context.plan.values[static_cast<size_t>(id)]);
}

}  // namespace

Interpreter::Interpreter(const Program& program) : program_(program) {
  for (const Branch& branch : program.branches) one_sequence_.push_back(program.one_sequence(branch));
  observer_.executed.resize(program.ops.size(), 0);
}

void Interpreter::run(const Part& part, const ExecContext& context, ExecBackend& backend) {
  run_ops(part.begin, part.end, context, backend);
}

void Interpreter::run_ops(int32_t begin, int32_t end, const ExecContext& context, ExecBackend& backend) {
  for (int32_t i = begin; i < end && !context.pool.cancelled(); ++i) {
    const Op& op = program_.ops[static_cast<size_t>(i)];
    ++observer_.executed[static_cast<size_t>(i)];
    const int64_t begin_time = observer_.timeline ? now() : 0;
    const int32_t index = i;
    if (op.branches.empty()) {
      backend.run(context, op, static_cast<size_t>(i));
    } else {
      run_cond(op, context, backend);
      i = program_.branches[static_cast<size_t>(op.branches.back())].end - 1;
    }
    if (observer_.timeline) {
      (void)backend.finish();  // an error comes again at the end of the step
      observer_.timeline->push_back({index, begin_time, now()});
    }
    if (observer_.probe) show(op, context, backend);
  }
}

// Neighbours that take the same branch run it together, unless it works on the source rows of one sequence.
void Interpreter::run_cond(const Op& op, const ExecContext& context, ExecBackend& backend) {
  Frame& frame = context.frame;
  const Frame::Active whole = frame.active();
  const float* predicate = value_of(context, op.inputs[0]);
  const int64_t end = whole.first_run + whole.runs;
  for (int64_t run = whole.first_run; run < end;) {
    const bool taken = predicate[run] != 0.0f;
    const size_t id = static_cast<size_t>(op.branches[taken ? 0 : 1]);
    int64_t next = run + 1;
    while (!one_sequence_[id] && next < end && (predicate[next] != 0.0f) == taken) ++next;
    frame.set_active(frame.narrow(run, next - run));
    run_ops(program_.branches[id].begin, program_.branches[id].end, context, backend);
    run = next;
  }
  frame.set_active(whole);
}

void Interpreter::show(const Op& op, const ExecContext& context, ExecBackend& backend) {
  const Frame& frame = context.frame;
  for (ValueId id : op.outputs) {
    const Value& output = program_.values[static_cast<size_t>(id)];
    if (output.view == View::keys || output.view == View::values) continue;
    const float* data = output.view == View::source ? frame.only_run().source : value_of(context, id);
    data += frame.first_of(output.extent) * output.width;
    const int64_t rows = frame.rows_of(output.extent);
    const Result<const float*> shown = backend.read(data, rows * output.width);
    // An error comes again at the end of the step.
    if (shown.ok()) observer_.probe({op, id, shown.value(), rows, output.width});
  }
}

}  // namespace kvass
