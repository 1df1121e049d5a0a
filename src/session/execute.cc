// One operator of a program on the rows of a step: the only place that knows which op is which kernel call.
#include <algorithm>
#include <cstring>

#include "kernels/elementwise/elementwise.h"
#include "kernels/gelu_gate/gelu_gate.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/silu_gate/silu_gate.h"
#include "session/step.h"

namespace kvass {
namespace {

// Rows that one task of a row-wise op takes.
constexpr int64_t kTaskRows = 8;

// The vocabulary head keeps 16-bit activations under `--math a8`: it is bound by reading its weights, so they cost next
// to nothing there, and its error goes straight into the logits.
Math math_of(Math math, const Value& x) { return x.extent == Extent::head && math == Math::a8 ? Math::a16 : math; }

// gate, up, out: [n]
using GateKernel = void (*)(const float* gate, const float* up, float* out, int64_t n);

class OpRunner {
 public:
  OpRunner(const OpContext& context, const Op& op, size_t index) : context_(context), op_(op), index_(index) {}

  void run() {
    switch (op_.kind) {
      case OpKind::embed:
        return embed();
      case OpKind::rms_norm:
        return norm();
      case OpKind::linear:
        return project();
      case OpKind::cache_write:
        return write();
      case OpKind::attention:
        return attend();
      case OpKind::gelu_gate:
        return gate(gelu_gate_for(isa()));
      case OpKind::silu_gate:
        return gate(silu_gate_for(isa()));
      case OpKind::add:
        return sum();
      case OpKind::bias:
        return bias();
      case OpKind::select_rows:
        return select();
      case OpKind::softcap:
        return cap();
    }
  }

 private:
  const Program& program() const { return context_.engine.program(); }
  const Value& info(ValueId id) const { return program().values[static_cast<size_t>(id)]; }
  float* data(ValueId id) const {
    return reinterpret_cast<float*>(context_.arena + context_.plan.values[static_cast<size_t>(id)]);
  }
  void* workspace() const { return context_.arena + context_.plan.workspace[index_]; }
  int64_t rows(ValueId id) const {
    return info(id).extent == Extent::chunk ? context_.tables.rows() : context_.tables.head_rows();
  }
  const PackedWeight& matrix(size_t i) const {
    return context_.engine.weights().matrices[static_cast<size_t>(op_.weights[i])];
  }
  const float* vector(size_t i) const { return context_.engine.weights().vectors[static_cast<size_t>(op_.weights[i])]; }
  Isa isa() const { return context_.engine.isa(); }

  // body(first row, row count) over all rows of the first output.
  template <class Body>
  void for_rows(Body&& body) const {
    const int64_t count = rows(op_.outputs[0]);
    context_.pool.run((count + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
      const int64_t first = task * kTaskRows;
      body(first, std::min(kTaskRows, count - first));
    });
  }

  void embed() const {
    const int64_t width = info(op_.outputs[0]).width;
    float* out = data(op_.outputs[0]);
    const auto scale = scale_for(isa());
    for_rows([&](int64_t first, int64_t count) {
      for (int64_t row = first; row < first + count; ++row) {
        unpack_row(matrix(0), context_.tables.tokens()[row], out + row * width);
        scale(out + row * width, op_.scale, out + row * width, width);
      }
    });
  }

  void norm() const {
    const int64_t width = info(op_.outputs[0]).width;
    const float* x = data(op_.inputs[0]);
    float* out = data(op_.outputs[0]);
    const auto kernel = rms_norm_for(isa());
    const int64_t group = width / op_.heads;
    for_rows([&](int64_t first, int64_t count) {
      kernel({x + first * width, vector(0), out + first * width, count * op_.heads, group, group, group, op_.epsilon});
    });
  }

  void project() const {
    LinearTarget targets[kMaxLinearWeights];
    for (size_t i = 0; i < op_.weights.size(); ++i) {
      targets[i] = {matrix(i), data(op_.outputs[i]), info(op_.outputs[i]).width};
    }
    const int64_t width = info(op_.inputs[0]).width;
    linear(data(op_.inputs[0]), width, rows(op_.inputs[0]), width, std::span(targets, op_.weights.size()),
           math_of(context_.engine.math(), info(op_.inputs[0])), workspace(), context_.pool, isa());
  }

  bool interleaved(const StepTables::Angles& angles) const {
    return program().rotaries[static_cast<size_t>(angles.rotary)].interleaved;
  }

  void write() const {
    const StepTables::Angles& angles = context_.tables.angles(op_.state);
    CacheWriteArgs args;
    args.k = data(op_.inputs[0]);
    args.v = data(op_.inputs[1]);
    args.cos = angles.cos;
    args.sin = angles.sin;
    args.interleaved = interleaved(angles);
    args.shape = context_.tables.shape(op_.state);
    args.runs = context_.tables.write_runs(op_.state);
    cache_write(args, context_.pool, isa());
  }

  void attend() const {
    const StepTables::Angles& angles = context_.tables.angles(op_.state);
    AttentionArgs args;
    args.q = data(op_.inputs[0]);
    args.q_stride = info(op_.inputs[0]).width;
    args.out = data(op_.outputs[0]);
    args.out_stride = info(op_.outputs[0]).width;
    args.heads = op_.heads;
    args.interleaved = interleaved(angles);
    args.shape = context_.tables.shape(op_.state);
    args.scale = op_.scale;
    args.softcap = op_.cap;
    args.cos = angles.cos;
    args.sin = angles.sin;
    if (angles.two_queries) {
      args.sink_cos = angles.sink_cos;
      args.sink_sin = angles.sink_sin;
    }
    args.runs = context_.tables.attention_runs(program(), op_.state);
    kvass::attention(args, workspace(), context_.pool, isa());
  }

  void gate(GateKernel kernel) const {
    const int64_t width = info(op_.outputs[0]).width;
    const float* gate = data(op_.inputs[0]);
    const float* up = data(op_.inputs[1]);
    float* out = data(op_.outputs[0]);
    for_rows([&](int64_t first, int64_t count) {
      kernel(gate + first * width, up + first * width, out + first * width, count * width);
    });
  }

  void sum() const {
    const int64_t width = info(op_.outputs[0]).width;
    const float* a = data(op_.inputs[0]);
    const float* b = data(op_.inputs[1]);
    float* out = data(op_.outputs[0]);
    const auto kernel = add_for(isa());
    for_rows([&](int64_t first, int64_t count) {
      kernel(a + first * width, b + first * width, out + first * width, count * width);
    });
  }

  void bias() const {
    const int64_t width = info(op_.outputs[0]).width;
    const float* x = data(op_.inputs[0]);
    float* out = data(op_.outputs[0]);
    const auto kernel = add_for(isa());
    for_rows([&](int64_t first, int64_t count) {
      for (int64_t row = first; row < first + count; ++row) {
        kernel(x + row * width, vector(0), out + row * width, width);
      }
    });
  }

  void select() const {
    const size_t width = static_cast<size_t>(info(op_.outputs[0]).width);
    const float* x = data(op_.inputs[0]);
    float* out = data(op_.outputs[0]);
    for (size_t row = 0; row < static_cast<size_t>(context_.tables.head_rows()); ++row) {
      std::memcpy(out + row * width, x + static_cast<size_t>(context_.tables.selected()[row]) * width,
                  width * sizeof(float));
    }
  }

  void cap() const {
    const int64_t width = info(op_.outputs[0]).width;
    const float* x = data(op_.inputs[0]);
    float* out = data(op_.outputs[0]);
    const auto kernel = softcap_for(isa());
    for_rows(
        [&](int64_t first, int64_t count) { kernel(x + first * width, op_.cap, out + first * width, count * width); });
  }

  const OpContext& context_;
  const Op& op_;
  size_t index_;
};

}  // namespace

size_t workspace_bytes(const Program& program, Math math, const Op& op, const SessionOptions& options) {
  if (op.kind == OpKind::linear) {
    const Value& x = program.values[static_cast<size_t>(op.inputs[0])];
    return activation_bytes(math_of(math, x), x.extent == Extent::chunk ? options.rows : options.head_rows, x.width);
  }
  if (op.kind == OpKind::attention) {
    const CacheState& state = program.states[static_cast<size_t>(op.state)];
    return attention_scratch_bytes(options.rows, op.heads, state.kv_heads, state.head_dim, options.threads);
  }
  return 0;
}

void execute_op(const OpContext& context, const Op& op, size_t index) { OpRunner(context, op, index).run(); }

}  // namespace kvass
