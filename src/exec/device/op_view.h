// One op of a program in a step, as its code on a device sees it: what it reads and writes in the device's memory, and
// what to launch it with. Each operator that devices have defines `device_op_<name>` in its folder
// (src/ops/<name>/op_device.cc).
#pragma once

#include <cstddef>
#include <cstdint>

#include "exec/device/tables.h"
#include "exec/device/weights.h"
#include "exec/op_view.h"
#include "ops/device_kernels.h"

namespace kvass {

// Work of an attention is divided as for a device with so many processors, so that a plan is the same on all.
inline constexpr int kPlannedProcessors = 128;

class DeviceOpView : public OpPlace {
 public:
  DeviceOpView(const ExecContext& context, const Op& op, size_t index, const DeviceTables& tables, void* scratch,
               DeviceStream stream)
      : OpPlace(context, op, index), tables_(tables), scratch_(scratch), stream_(stream) {}

  int64_t input_rows(size_t i = 0) const { return frame().rows_of(input(i).extent); }
  int64_t rows(size_t i = 0) const { return frame().rows_of(output(i).extent); }
  int64_t width(size_t i = 0) const { return output(i).width; }
  const float* in(size_t i = 0) const { return in_arena(op_.inputs[i]); }
  float* out(size_t i = 0) const { return in_arena(op_.outputs[i]); }
  const PackedWeight& matrix(size_t i = 0) const {
    return context_.model.device->matrices[static_cast<size_t>(op_.weights[i])];
  }
  const float* vector(size_t i = 0) const {
    return context_.model.device->vectors[static_cast<size_t>(op_.weights[i])];
  }

  const DeviceTables& tables() const { return tables_; }
  const DeviceTables::Layer& layer() const { return tables_.layer(op_.state); }
  void* scratch() const { return scratch_; }  // DeviceOp::scratch bytes
  const DeviceKernels& kernels() const { return *context_.model.device->kernels; }
  DeviceStream stream() const { return stream_; }

 private:
  const DeviceTables& tables_;
  void* scratch_;
  DeviceStream stream_;
};

// How much a step is, for scratch that depends on how many keys its rows see.
struct DeviceScratch {
  int64_t rows;
  int64_t runs;
  int64_t spans;  // of keys that the rows of a run see between them
};

struct DeviceOp {
  Status (*run)(const DeviceOpView&) = nullptr;
  // Bytes of scratch beside the workspace, which no plan of a program knows; null: none. Only ops with a state.
  size_t (*scratch)(const Program&, const Op&, const DeviceScratch&) = nullptr;
};

const DeviceOp* device_op(OpKind kind);  // null: it runs on the CPU only

#define KVASS_DEVICE_OP_cpu(name)
#define KVASS_DEVICE_OP_devices(name) extern const DeviceOp device_op_##name;
#define KVASS_OP(name, where, text) KVASS_DEVICE_OP_##where(name)
#include "program/ops.inc"
#undef KVASS_OP
#undef KVASS_DEVICE_OP_devices
#undef KVASS_DEVICE_OP_cpu

}  // namespace kvass
