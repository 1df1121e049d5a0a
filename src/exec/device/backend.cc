#include "exec/device/backend.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/block.h"
#include "exec/device/op_view.h"

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

// The most scratch that an op needs where the ops of a state see so many spans of keys: spans_of(state).
template <class SpansOf>
size_t scratch_bytes(const Program& program, int64_t rows, int64_t runs, SpansOf&& spans_of) {
  size_t bytes = 0;
  for (const Op& op : program.ops) {
    const DeviceOp* device = device_op(op.kind);
    if (device && device->scratch) {
      bytes = std::max(bytes, device->scratch(program, op, {rows, runs, spans_of(op.state)}));
    }
  }
  return bytes;
}

size_t planned_scratch_bytes(const Program& program, const BackendLimits& limits) {
  const int64_t spans = limits.keys / kSpanKeys + 3;  // neither sinks nor others begin and end with a span
  return scratch_bytes(program, limits.rows.chunk, limits.rows.sequences, [&](StateId) { return spans; });
}

class DeviceBackend : public ExecBackend {
 public:
  static Result<std::unique_ptr<ExecBackend>> create(const ExecModel& model, const BackendLimits& limits,
                                                     size_t arena_bytes) {
    const Program& program = model.program;
    const DeviceRuntime& runtime = *model.device->kernels->runtime;
    KVASS_ASSIGN_OR_RETURN(DeviceTables tables, DeviceTables::create(runtime, program, limits.rows));
    std::unique_ptr<DeviceBackend> backend(new DeviceBackend(program, runtime, std::move(tables)));
    KVASS_ASSIGN_OR_RETURN(backend->stream_, runtime.create_stream());
    KVASS_ASSIGN_OR_RETURN(backend->arena_, DeviceBlock::map(runtime, arena_bytes, "arena"));
    KVASS_ASSIGN_OR_RETURN(backend->frame_memory_, Block::map(Frame::bytes(program, limits.rows)));
    const size_t logits = static_cast<size_t>(limits.rows.head * program.vocabulary()) * sizeof(float);
    KVASS_ASSIGN_OR_RETURN(backend->read_, PinnedBlock::map(runtime, logits));
    KVASS_ASSIGN_OR_RETURN(backend->scratch_, DeviceBlock::map(runtime, planned_scratch_bytes(program, limits)));
    backend->bytes_ = arena_bytes + device_backend_bytes(program, limits);
    return std::unique_ptr<ExecBackend>(std::move(backend));
  }
  ~DeviceBackend() override {
    if (stream_) runtime_.destroy_stream(stream_);
  }

  uint8_t* arena() override { return arena_.data(); }
  uint8_t* frame_memory() override { return frame_memory_.data(); }
  size_t bytes() const override { return bytes_; }

  Status begin(Frame& frame) override {
    status_ = tables_.begin(program_, frame, stream_);
    if (status_.ok()) status_ = fit_scratch();
    return status_;
  }
  Status select(Frame& frame) override {
    if (status_.ok()) status_ = tables_.select(frame, stream_);
    return status_;
  }
  void run(const ExecContext& context, const Op& op, size_t index) override {
    if (!status_.ok()) return;
    const DeviceOpView view(context, op, index, tables_, scratch_.data(), stream_);
    status_ = device_op(op.kind)->run(view);  // check_device_program has seen that there is one
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

 private:
  DeviceBackend(const Program& program, const DeviceRuntime& runtime, DeviceTables tables)
      : program_(program), runtime_(runtime), tables_(std::move(tables)) {}

  // A stream that sees more keys than were planned for needs more.
  Status fit_scratch() {
    const size_t bytes = scratch_bytes(program_, tables_.rows(), tables_.runs(), [&](StateId state) {
      return tables_.layer(state).sink_spans + tables_.layer(state).body_spans;
    });
    if (bytes <= scratch_.bytes()) return {};
    const size_t before = scratch_.bytes();
    KVASS_ASSIGN_OR_RETURN(scratch_, DeviceBlock::map(runtime_, bytes));
    bytes_ += bytes - before;
    return {};
  }

  const Program& program_;
  const DeviceRuntime& runtime_;
  DeviceStream stream_ = nullptr;
  DeviceBlock arena_;
  Block frame_memory_;
  DeviceTables tables_;
  DeviceBlock scratch_;
  PinnedBlock read_;  // logits, or what a probe looks at
  size_t bytes_ = 0;
  Status status_;  // of the step so far
};

}  // namespace

Status check_device_program(const Program& program) {
  for (const Op& op : program.ops) {
    if (op_on_devices(op.kind)) continue;
    return unsupported("program for a device", "ops that devices have",
                       std::string(op_kind_name(op.kind)) + " ('" + op.name + "'), which runs on the CPU only");
  }
  return {};
}

Result<std::unique_ptr<ExecBackend>> create_device_backend(const ExecModel& model, const BackendLimits& limits,
                                                           size_t arena_bytes) {
  return DeviceBackend::create(model, limits, arena_bytes);
}

size_t device_backend_bytes(const Program& program, const BackendLimits& limits) {
  return DeviceTables::bytes(program, limits.rows) + planned_scratch_bytes(program, limits);
}

}  // namespace kvass
