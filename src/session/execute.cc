// One operator of a program on the rows of a step: the only place that knows which op is which kernel call.
#include <algorithm>
#include <cstring>

#include "kernels/elementwise/elementwise.h"
#include "kernels/gelu_gate/gelu_gate.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/silu_gate/silu_gate.h"
#include "ops/attention/weights.h"
#include "ops/linear/likeliest.h"
#include "session/step_op.h"

namespace kvass {
namespace {

// Rows that one task of a row-wise op takes.
constexpr int64_t kTaskRows = 8;

// gate, up, out: [n]
using GateKernel = void (*)(const float* gate, const float* up, float* out, int64_t n);

constexpr int64_t kFloatsAligned = kArenaAlignment / sizeof(float);
int64_t aligned_floats(int64_t floats) { return (floats + kFloatsAligned - 1) / kFloatsAligned * kFloatsAligned; }

// Memory of `attend_rows`: its keys and values in float32 tiles, as the attention reads them.
struct RowsAttention {
  RowsAttention(const Program& program, const Op& op) {
    const Value& q = program.values[static_cast<size_t>(op.inputs[0])];
    const int64_t head_dim = q.width / op.heads;
    shape = {DType::f32, program.values[static_cast<size_t>(op.inputs[1])].width / head_dim, head_dim};
    rows = q.extent == Extent::frames ? program.source.frames : program.source.rows;
    tiles = (rows + kTileKeys - 1) / kTileKeys;
  }
  size_t tile_bytes() const { return shape.segment_bytes(tiles); }
  size_t visible_bytes() const {
    return (static_cast<size_t>(rows) * sizeof(RowVisibility) + kArenaAlignment - 1) / kArenaAlignment *
           kArenaAlignment;
  }

  TileShape shape;
  int64_t rows = 0;  // most
  int64_t tiles = 0;
};

class OpRunner : private StepOp {
 public:
  OpRunner(const StepContext& context, const Op& op, size_t index) : StepOp(context, op, index) {}

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
      case OpKind::copy:
        return copy();
      case OpKind::gelu:
        return gelu();
      case OpKind::layer_norm:
        return layer_norm();
      case OpKind::positions:
        return positions();
      case OpKind::input:
        return input();
      case OpKind::conv1d:
        return convolve();
      case OpKind::attend_rows:
        return attend_rows();
      case OpKind::store_source:
        return store_source();
      case OpKind::is_initialised:
        return ask([&](CrossCache& cross) { return cross.initialised(op_.cross); });
      case OpKind::any_nonzero:
        return ask([&](CrossCache& cross) { return cross.any_nonzero(op_.cross); });
      case OpKind::update_cross_attn_cache:
        return update_cross();
      case OpKind::cross_attention:
        return attend_cross();
      case OpKind::source:  // views: nothing to do
      case OpKind::alias:
      case OpKind::cond:  // the session's
        return;
    }
  }

 private:
  const StepTables::Window& window() const { return context_.tables.window(); }
  // All rows of a value; of those of the step, also rows that are not in the window.
  float* all(ValueId id) const {
    if (info(id).view == View::source) return context_.tables.cross().source();
    return in_arena(id);
  }
  float* data(ValueId id) const {
    const Extent extent = info(id).extent;
    const int64_t first = extent == Extent::chunk      ? window().first_row
                          : extent == Extent::sequence ? window().first_run
                                                       : 0;
    return all(id) + first * info(id).width;
  }
  int64_t rows(ValueId id) const {
    switch (info(id).extent) {
      case Extent::chunk:
        return window().rows;
      case Extent::head:
        return context_.tables.head_rows();
      case Extent::frames:
        return context_.tables.frames();
      case Extent::source:
        return context_.tables.cross().rows();
      case Extent::sequence:
        return window().runs;
    }
    return 0;
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
        unpack_row(matrix(0), context_.tables.tokens()[window().first_row + row], out + row * width);
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
    const Math math = math_of(context_.engine.math(), info(op_.inputs[0]));
    if (context_.likeliest && op_.outputs[0] == program().logits && rows(op_.inputs[0]) == 1 && math != Math::f32 &&
        matrix(0).type == WeightType::Q8_0_split) {
      LikeliestLogit& to = *context_.likeliest;
      to.logit =
          likeliest(data(op_.inputs[0]), matrix(0), math, targets[0].y, workspace(), to.scratch, context_.pool, isa());
      to.found = true;
      return;
    }
    linear(data(op_.inputs[0]), width, rows(op_.inputs[0]), width, std::span(targets, op_.weights.size()), math,
           workspace(), context_.pool, isa());
  }

  void write() const {
    const StepTables::Angles& angles = context_.tables.angles(op_.state);
    CacheWriteArgs args;
    args.k = all(op_.inputs[0]);
    args.v = all(op_.inputs[1]);
    args.cos = angles.cos;
    args.sin = angles.sin;
    args.interleaved = interleaved();
    args.shape = context_.tables.shape(op_.state);
    args.runs = context_.tables.write_runs(op_.state);
    cache_write(args, context_.pool, isa());
  }

  void attend() const {
    const StepTables::Angles& angles = context_.tables.angles(op_.state);
    AttentionArgs args;
    args.q = all(op_.inputs[0]);
    args.q_stride = info(op_.inputs[0]).width;
    args.out = all(op_.outputs[0]);
    args.out_stride = info(op_.outputs[0]).width;
    args.heads = op_.heads;
    args.interleaved = interleaved();
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

  void copy() const {
    const int64_t width = info(op_.outputs[0]).width;
    std::memcpy(data(op_.outputs[0]), data(op_.inputs[0]),
                static_cast<size_t>(rows(op_.outputs[0]) * width) * sizeof(float));
  }

  void gelu() const {
    const int64_t width = info(op_.outputs[0]).width;
    const float* x = data(op_.inputs[0]);
    float* out = data(op_.outputs[0]);
    const auto kernel = gelu_for(isa());
    for_rows([&](int64_t first, int64_t count) { kernel(x + first * width, out + first * width, count * width); });
  }

  void layer_norm() const {
    const int64_t width = info(op_.outputs[0]).width;
    const float* x = data(op_.inputs[0]);
    float* out = data(op_.outputs[0]);
    const auto kernel = layer_norm_for(isa());
    for_rows([&](int64_t first, int64_t count) {
      kernel({x + first * width, vector(0), vector(1), out + first * width, count, width, op_.epsilon});
    });
  }

  // Of a chunk's rows the stream's positions, of source rows their own.
  void positions() const {
    const int64_t width = info(op_.outputs[0]).width;
    const bool chunk = info(op_.outputs[0]).extent == Extent::chunk;
    const float* x = data(op_.inputs[0]);
    float* out = data(op_.outputs[0]);
    float* scratch = static_cast<float*>(workspace());  // [threads][width]
    const auto kernel = add_for(isa());
    const int64_t count = rows(op_.outputs[0]);
    context_.pool.run((count + kTaskRows - 1) / kTaskRows, [&](int64_t task, int thread) {
      float* row_of_table = scratch + thread * width;
      for (int64_t row = task * kTaskRows; row < std::min(count, (task + 1) * kTaskRows); ++row) {
        unpack_row(matrix(0), chunk ? context_.tables.position(window().first_row + row) : row, row_of_table);
        kernel(x + row * width, row_of_table, out + row * width, width);
      }
    });
  }

  // The caller's channels to rows.
  void input() const {
    const int64_t width = info(op_.outputs[0]).width;
    const int64_t count = rows(op_.outputs[0]);
    const int64_t stride = context_.input->stride == 0 ? count : context_.input->stride;
    const float* from = static_cast<const float*>(context_.input->data);
    float* out = data(op_.outputs[0]);
    for_rows([&](int64_t first, int64_t some) {
      for (int64_t channel = 0; channel < width; ++channel) {
        for (int64_t row = first; row < first + some; ++row) out[row * width + channel] = from[channel * stride + row];
      }
    });
  }

  // A row of the result takes three rows of x, which lie behind one another: a row of 3 · width with a stride. Only at
  // the ends a row is missing; those are put together in the workspace.
  void convolve() const {
    const int64_t width = info(op_.inputs[0]).width;
    const int64_t outputs = info(op_.outputs[0]).width;
    const int64_t taken = rows(op_.inputs[0]);
    const int64_t count = rows(op_.outputs[0]);
    const float* x = data(op_.inputs[0]);
    float* out = data(op_.outputs[0]);
    const Math math = math_of(context_.engine.math(), info(op_.inputs[0]));
    float* ends = static_cast<float*>(workspace());  // [2][3 · width], then what `linear` needs
    void* scratch = ends + aligned_floats(6 * width);
    const auto run = [&](const float* rows, int64_t stride, int64_t rows_count, float* y, int64_t y_stride) {
      const LinearTarget target{matrix(0), y, y_stride};
      linear(rows, stride, rows_count, 3 * width, std::span(&target, 1), math, scratch, context_.pool, isa());
    };
    const bool last_is_end = (count - 1) * op_.stride + 1 >= taken;  // its third row is not there
    const int64_t inner_end = last_is_end ? count - 1 : count;
    const auto put_together = [&](int64_t row, float* to) {
      for (int64_t i = 0; i < 3; ++i) {
        const int64_t from = row * op_.stride - 1 + i;
        if (from < 0 || from >= taken) {
          std::fill_n(to + i * width, width, 0.0f);
        } else {
          std::copy_n(x + from * width, width, to + i * width);
        }
      }
    };
    put_together(0, ends);
    run(ends, 3 * width, 1, out, outputs);
    if (count == 1) return;
    if (inner_end > 1) run(x + (op_.stride - 1) * width, op_.stride * width, inner_end - 1, out + outputs, outputs);
    if (!last_is_end) return;
    put_together(count - 1, ends);
    run(ends, 3 * width, 1, out + (count - 1) * outputs, outputs);
  }

  void attend_rows() const {
    const RowsAttention form(program(), op_);
    const int64_t count = rows(op_.outputs[0]);
    uint8_t* memory = static_cast<uint8_t*>(workspace());  // [tiles | visible keys | scratch]
    const KeySegment segment{memory, form.tiles, 0};
    RowVisibility* visible = reinterpret_cast<RowVisibility*>(memory + form.tile_bytes());
    std::fill_n(visible, count, RowVisibility{0, 0, count});
    CacheWriteArgs write;
    write.k = data(op_.inputs[1]);
    write.v = data(op_.inputs[2]);
    write.shape = form.shape;
    const CacheWriteRun whole{0, count, 0, {}, segment};
    write.runs = std::span(&whole, 1);
    cache_write(write, context_.pool, isa());

    AttentionArgs args;
    args.q = data(op_.inputs[0]);
    args.q_stride = info(op_.inputs[0]).width;
    args.out = data(op_.outputs[0]);
    args.out_stride = info(op_.outputs[0]).width;
    args.heads = op_.heads;
    args.shape = form.shape;
    args.scale = op_.scale;
    AttentionRun run;
    run.rows = count;
    run.ring = segment;
    run.visible = visible;
    args.runs = std::span(&run, 1);
    kvass::attention(args, memory + form.tile_bytes() + form.visible_bytes(), context_.pool, isa());
  }

  void store_source() const {
    const size_t bytes = static_cast<size_t>(rows(op_.inputs[0]) * info(op_.inputs[0]).width) * sizeof(float);
    std::memcpy(context_.tables.cross().source(), data(op_.inputs[0]), bytes);
  }

  template <class Question>
  void ask(Question&& question) const {
    float* out = data(op_.outputs[0]);
    for (int64_t i = 0; i < window().runs; ++i) {
      out[i] = question(*context_.tables.sequence(window().first_run + i).cross()) ? 1.0f : 0.0f;
    }
  }

  void update_cross() const {
    CrossCache& cross = context_.tables.cross();
    CacheWriteArgs args;
    args.k = data(op_.inputs[0]);
    args.v = data(op_.inputs[1]);
    args.shape = cross.shape(op_.cross);
    const CacheWriteRun run{0, cross.rows(), 0, {}, cross.segment(op_.cross)};
    args.runs = std::span(&run, 1);
    cache_write(args, context_.pool, isa());
    cross.set_initialised(op_.cross, cross.rows());
  }

  void attend_cross() const {
    AttentionArgs args;
    args.q = all(op_.inputs[0]);
    args.q_stride = info(op_.inputs[0]).width;
    args.out = all(op_.outputs[0]);
    args.out_stride = info(op_.outputs[0]).width;
    args.heads = op_.heads;
    args.shape = context_.tables.cross().shape(op_.cross);
    args.scale = op_.scale;
    args.runs = context_.tables.cross_runs(op_.cross);
    kvass::attention(args, workspace(), context_.pool, isa());
    const CrossWeights& wanted = context_.cross_weights;
    const int64_t stride = program().source.rows;
    for (size_t i = 0; i < wanted.heads.size(); ++i) {
      if (wanted.heads[i].cross != op_.cross) continue;
      attention_weights(args, wanted.heads[i].head, wanted.out + static_cast<int64_t>(i) * context_.most_rows * stride,
                        stride, context_.pool);
    }
  }
};

}  // namespace

Math math_of(Math math, const Value& x) { return x.extent == Extent::head && math == Math::a8 ? Math::a16 : math; }

size_t workspace_bytes(const Program& program, Math math, const Op& op, const SessionOptions& options) {
  const RowLimits limits{options.rows, options.head_rows, options.sequences};
  switch (op.kind) {
    case OpKind::linear: {
      const Value& x = program.values[static_cast<size_t>(op.inputs[0])];
      return activation_bytes(math_of(math, x), limits.of(program, x.extent), x.width);
    }
    case OpKind::conv1d: {
      const Value& x = program.values[static_cast<size_t>(op.inputs[0])];
      const int64_t rows = limits.of(program, program.values[static_cast<size_t>(op.outputs[0])].extent);
      return static_cast<size_t>(aligned_floats(6 * x.width)) * sizeof(float) +
             activation_bytes(math_of(math, x), rows, 3 * x.width);
    }
    case OpKind::positions:
      return static_cast<size_t>(options.threads * program.values[static_cast<size_t>(op.outputs[0])].width) *
             sizeof(float);
    case OpKind::attention: {
      const CacheState& state = program.states[static_cast<size_t>(op.state)];
      return attention_scratch_bytes(options.rows, op.heads, state.kv_heads, state.head_dim, options.threads);
    }
    case OpKind::cross_attention: {
      const CrossState& cross = program.crosses[static_cast<size_t>(op.cross)];
      return attention_scratch_bytes(options.rows, op.heads, cross.kv_heads, cross.head_dim, options.threads);
    }
    case OpKind::attend_rows: {
      const RowsAttention form(program, op);
      return form.tile_bytes() + form.visible_bytes() +
             attention_scratch_bytes(form.rows, op.heads, form.shape.kv_heads, form.shape.head_dim, options.threads);
    }
    default:
      return 0;
  }
}

void execute_op(const StepContext& context, const Op& op, size_t index) { OpRunner(context, op, index).run(); }

}  // namespace kvass
