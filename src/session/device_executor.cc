#include "session/device_executor.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/block.h"
#include "ops/device_kernels.h"
#include "ops/linear/device.h"
#include "session/device_tables.h"
#include "session/step_op.h"

namespace kvass {
namespace {

// Memory of this machine that copies from a device go straight into.
class PinnedBlock {
 public:
  PinnedBlock() = default;
  static Result<PinnedBlock> map(const DeviceRuntime& runtime, size_t bytes) {
    PinnedBlock block;
    KVASS_ASSIGN_OR_RETURN(block.data_, runtime.allocate_host(std::max(bytes, size_t{1})));
    block.runtime_ = &runtime;
    block.bytes_ = bytes;
    return block;
  }
  PinnedBlock(PinnedBlock&& other) noexcept { swap(other); }
  PinnedBlock& operator=(PinnedBlock&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PinnedBlock() {
    if (data_) runtime_->release_host(data_);
  }
  void* data() { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void swap(PinnedBlock& other) noexcept {
    std::swap(runtime_, other.runtime_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  const DeviceRuntime* runtime_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

size_t argmax_bytes(const SessionOptions& options) {
  return static_cast<size_t>(options.head_rows) * (sizeof(Argmax) + kArgmaxParts * sizeof(uint64_t));
}

// Work of the attention is divided as for a device with so many processors, so that a plan is the same on all.
constexpr int kProcessors = 128;

size_t attention_bytes(const Program& program, const Op& op, int64_t rows, int64_t runs, int64_t spans) {
  const CacheState& state = program.states[static_cast<size_t>(op.state)];
  return device_attention_scratch_bytes(rows, runs, op.heads, state.kv_heads, state.head_dim, spans, kProcessors);
}

size_t planned_attention_bytes(const Program& program, const SessionOptions& options) {
  const int64_t spans = options.keys / kSpanKeys + 3;  // neither sinks nor others begin and end with a span
  size_t bytes = 0;
  for (const Op& op : program.ops) {
    if (op.kind != OpKind::attention) continue;
    bytes = std::max(bytes, attention_bytes(program, op, options.rows, options.sequences, spans));
  }
  return bytes;
}

// One op of a program on the rows of a step, as OpRunner (execute.cc) on the CPU.
class DeviceOp : private StepOp {
 public:
  DeviceOp(const StepContext& context, const Op& op, size_t index, const DeviceTables& tables, void* attention_scratch,
           DeviceStream stream)
      : StepOp(context, op, index),
        tables_(tables),
        attention_scratch_(attention_scratch),
        weights_(*context.engine.device_weights()),
        kernels_(*weights_.kernels),
        stream_(stream) {}

  Status run() const {
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
        return pair(kernels_.gelu_gate);
      case OpKind::silu_gate:
        return pair(kernels_.silu_gate);
      case OpKind::add:
        return pair(kernels_.add);
      case OpKind::bias:
        return kernels_.bias(
            {in_arena(op_.inputs[0]), vector(0), in_arena(op_.outputs[0]), rows(), width(op_.outputs[0])}, stream_);
      case OpKind::select_rows:
        return kernels_.select_rows(
            {in_arena(op_.inputs[0]), tables_.selected(), in_arena(op_.outputs[0]), rows(), width(op_.outputs[0])},
            stream_);
      case OpKind::softcap:
        return kernels_.softcap(
            {in_arena(op_.inputs[0]), in_arena(op_.outputs[0]), rows() * width(op_.outputs[0]), op_.cap}, stream_);
      default:
        return Status::error(StatusCode::internal,
                             op_.name + ": not on this device");  // check_device_program has refused it
    }
  }

 private:
  int64_t width(ValueId id) const { return info(id).width; }
  int64_t rows(ValueId id) const {
    return info(id).extent == Extent::head ? context_.tables.head_rows() : tables_.rows();
  }
  int64_t rows() const { return rows(op_.outputs[0]); }
  const PackedWeight& matrix(size_t i) const { return weights_.matrices[static_cast<size_t>(op_.weights[i])]; }
  const float* vector(size_t i) const { return weights_.vectors[static_cast<size_t>(op_.weights[i])]; }

  Status pair(Status (*kernel)(const DevicePairParams&, DeviceStream)) const {
    return kernel(
        {in_arena(op_.inputs[0]), in_arena(op_.inputs[1]), in_arena(op_.outputs[0]), rows() * width(op_.outputs[0])},
        stream_);
  }

  Status embed() const {
    DeviceEmbedParams params;
    params.type = matrix(0).type;
    params.panels = matrix(0).data;
    params.k = matrix(0).k;
    params.ids = tables_.tokens();
    params.rows = rows();
    params.factor = op_.scale;
    params.y = in_arena(op_.outputs[0]);
    return kernels_.embed(params, stream_);
  }

  Status norm() const {
    const int64_t group = width(op_.outputs[0]) / op_.heads;
    return kernels_.rms_norm({in_arena(op_.inputs[0]), vector(0), in_arena(op_.outputs[0]), rows() * op_.heads, group,
                              group, group, op_.epsilon},
                             stream_);
  }

  Status project() const {
    LinearTarget targets[kMaxLinearWeights];
    for (size_t i = 0; i < op_.weights.size(); ++i) {
      targets[i] = {matrix(i), in_arena(op_.outputs[i]), width(op_.outputs[i])};
    }
    const ValueId x = op_.inputs[0];
    return linear(in_arena(x), width(x), rows(x), width(x), std::span(targets, op_.weights.size()),
                  math_of(context_.engine.math(), info(x)), workspace(), kernels_, stream_);
  }

  Status write() const {
    const DeviceTables::Layer& layer = tables_.layer(op_.state);
    const TileShape shape = context_.tables.shape(op_.state);
    DeviceCacheWriteParams params;
    params.k = in_arena(op_.inputs[0]);
    params.v = in_arena(op_.inputs[1]);
    params.cos = layer.cos;
    params.sin = layer.sin;
    params.interleaved = interleaved();
    params.dtype = shape.dtype;
    params.kv_heads = shape.kv_heads;
    params.head_dim = shape.head_dim;
    params.rows = tables_.rows();
    params.runs = layer.write_runs;
    params.run_of = tables_.run_of();
    return kernels_.cache_write_rows(params, stream_);
  }

  Status attend() const {
    const DeviceTables::Layer& layer = tables_.layer(op_.state);
    const TileShape shape = context_.tables.shape(op_.state);
    DeviceAttentionParams params;
    params.q = {in_arena(op_.inputs[0]), DType::f32, 0, width(op_.inputs[0]), shape.head_dim, 1};
    params.out = {in_arena(op_.outputs[0]), DType::f32, 0, width(op_.outputs[0]), shape.head_dim, 1};
    params.heads = op_.heads;
    params.kv_heads = shape.kv_heads;
    params.head_dim = shape.head_dim;
    params.dtype = shape.dtype;
    params.scale = op_.scale;
    params.softcap = op_.cap;
    params.cos = layer.cos;
    params.sin = layer.sin;
    params.sink_cos = layer.sink_cos;
    params.sink_sin = layer.sink_sin;
    params.interleaved = interleaved();
    params.runs = layer.attention_runs;
    params.visible = layer.visible;
    params.run_count = tables_.runs();
    params.most_rows = tables_.most_rows();
    params.sink_spans = layer.sink_spans;
    params.ring_spans = layer.ring_spans;
    params.processors = kProcessors;
    params.scratch = attention_scratch_;
    return kernels_.attention_exact(params, stream_);
  }

  const DeviceTables& tables_;
  void* attention_scratch_;
  const DeviceWeights& weights_;
  const DeviceKernels& kernels_;
  DeviceStream stream_;
};

class DeviceExecutor : public Executor {
 public:
  static Result<std::unique_ptr<Executor>> create(const Engine& engine, const SessionOptions& options,
                                                  size_t arena_bytes) {
    const Program& program = engine.program();
    const DeviceRuntime& runtime = *engine.device();
    KVASS_ASSIGN_OR_RETURN(DeviceTables tables, DeviceTables::create(runtime, program, options));
    std::unique_ptr<DeviceExecutor> executor(new DeviceExecutor(engine, std::move(tables)));
    KVASS_ASSIGN_OR_RETURN(executor->stream_, runtime.create_stream());
    KVASS_ASSIGN_OR_RETURN(executor->arena_, DeviceBlock::map(runtime, arena_bytes, "arena"));
    KVASS_ASSIGN_OR_RETURN(executor->tables_, Block::map(StepTables::bytes(program, options)));
    const size_t logits = static_cast<size_t>(options.head_rows * program.vocabulary()) * sizeof(float);
    KVASS_ASSIGN_OR_RETURN(executor->read_, PinnedBlock::map(runtime, logits));
    KVASS_ASSIGN_OR_RETURN(executor->argmax_, DeviceBlock::map(runtime, argmax_bytes(options)));
    KVASS_ASSIGN_OR_RETURN(executor->likeliest_,
                           PinnedBlock::map(runtime, static_cast<size_t>(options.head_rows) * sizeof(Argmax)));
    KVASS_ASSIGN_OR_RETURN(executor->attention_scratch_,
                           DeviceBlock::map(runtime, planned_attention_bytes(program, options)));
    executor->bytes_ = arena_bytes + device_executor_bytes(program, options);
    return std::unique_ptr<Executor>(std::move(executor));
  }
  ~DeviceExecutor() override {
    if (stream_) runtime_.destroy_stream(stream_);
  }

  uint8_t* arena() override { return arena_.data(); }
  uint8_t* tables() override { return tables_.data(); }
  size_t bytes() const override { return bytes_; }

  Status begin(StepTables& tables) override {
    status_ = device_tables_.begin(engine_.program(), tables, stream_);
    if (status_.ok()) status_ = fit_attention_scratch();
    return status_;
  }
  Status select(StepTables& tables) override {
    status_ = device_tables_.select(tables, stream_);
    return status_;
  }
  void run(const StepContext& context, const Op& op, size_t index) override {
    if (!status_.ok()) return;
    status_ = DeviceOp(context, op, index, device_tables_, attention_scratch_.data(), stream_).run();
    if (!status_.ok()) status_ = status_.with_message(op.name + ": " + status_.message());
  }
  Status finish() override {
    KVASS_RETURN_IF_ERROR(status_);
    return runtime_.synchronise(stream_);
  }
  Result<const float*> read(const float* data, int64_t floats) override {
    const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
    if (bytes > read_.bytes()) {  // a probe's: logits always fit
      KVASS_ASSIGN_OR_RETURN(read_, PinnedBlock::map(runtime_, bytes));
    }
    KVASS_RETURN_IF_ERROR(status_);
    KVASS_RETURN_IF_ERROR(runtime_.copy(read_.data(), data, bytes, CopyKind::to_host, stream_));
    KVASS_RETURN_IF_ERROR(runtime_.synchronise(stream_));
    return static_cast<const float*>(read_.data());
  }
  Result<const Argmax*> argmax(const float* data, int64_t rows, int64_t n, ThreadPool&) override {
    KVASS_RETURN_IF_ERROR(status_);
    DeviceArgmaxParams params;
    params.x = data;
    params.rows = rows;
    params.n = n;
    params.result = reinterpret_cast<Argmax*>(argmax_.data());
    params.parts = reinterpret_cast<uint64_t*>(params.result + rows);
    KVASS_RETURN_IF_ERROR(engine_.device_weights()->kernels->argmax(params, stream_));
    KVASS_RETURN_IF_ERROR(runtime_.copy(likeliest_.data(), params.result, static_cast<size_t>(rows) * sizeof(Argmax),
                                        CopyKind::to_host, stream_));
    KVASS_RETURN_IF_ERROR(runtime_.synchronise(stream_));
    return static_cast<const Argmax*>(likeliest_.data());
  }

 private:
  DeviceExecutor(const Engine& engine, DeviceTables tables)
      : engine_(engine), runtime_(*engine.device()), device_tables_(std::move(tables)) {}

  // A stream that sees more keys than were planned for needs more.
  Status fit_attention_scratch() {
    size_t bytes = 0;
    for (const Op& op : engine_.program().ops) {
      if (op.kind != OpKind::attention) continue;
      const DeviceTables::Layer& layer = device_tables_.layer(op.state);
      bytes = std::max(bytes, attention_bytes(engine_.program(), op, device_tables_.rows(), device_tables_.runs(),
                                              layer.sink_spans + layer.ring_spans));
    }
    if (bytes <= attention_scratch_.bytes()) return {};
    bytes_ += bytes - attention_scratch_.bytes();
    KVASS_ASSIGN_OR_RETURN(attention_scratch_, DeviceBlock::map(runtime_, bytes));
    return {};
  }

  const Engine& engine_;  // the session's, which outlives this
  const DeviceRuntime& runtime_;
  DeviceStream stream_ = nullptr;
  DeviceBlock arena_;
  Block tables_;  // as the session fills them in
  DeviceTables device_tables_;
  DeviceBlock attention_scratch_;
  PinnedBlock read_;       // logits, or what a probe looks at
  DeviceBlock argmax_;     // results, then scratch
  PinnedBlock likeliest_;  // [head rows]
  size_t bytes_ = 0;
  Status status_;  // of the step so far
};

}  // namespace

Status check_device_program(const Program& program) {
  for (const Op& op : program.ops) {
    switch (op.kind) {
      case OpKind::embed:
      case OpKind::rms_norm:
      case OpKind::linear:
      case OpKind::cache_write:
      case OpKind::attention:
      case OpKind::gelu_gate:
      case OpKind::silu_gate:
      case OpKind::add:
      case OpKind::bias:
      case OpKind::select_rows:
      case OpKind::softcap:
        break;
      default:
        return unsupported("program for a device", "ops that devices have",
                           std::string(op_kind_name(op.kind)) + " ('" + op.name + "'), which runs on the CPU only");
    }
  }
  return {};
}

Result<std::unique_ptr<Executor>> create_device_executor(const Engine& engine, const SessionOptions& options,
                                                         size_t arena_bytes) {
  return DeviceExecutor::create(engine, options, arena_bytes);
}

size_t device_executor_bytes(const Program& program, const SessionOptions& options) {
  return DeviceTables::bytes(program, options) + argmax_bytes(options) + planned_attention_bytes(program, options);
}

}  // namespace kvass
