#include "exec/backend.h"

#include <utility>

#include "base/block.h"
#include "exec/device/backend.h"
#include "exec/operators.h"

namespace kvass {
namespace {

class CpuBackend : public ExecBackend {
 public:
  CpuBackend(Block block, size_t arena_bytes) : block_(std::move(block)), arena_bytes_(arena_bytes) {}

  uint8_t* arena() override { return block_.data(); }
  uint8_t* frame_memory() override { return block_.data() + arena_bytes_; }
  size_t bytes() const override { return block_.bytes(); }
  void run(const ExecContext& context, const Op& op, size_t index) override {
    if (const CpuOp& cpu = cpu_op(op.kind); cpu.run) cpu.run(OpView(context, op, index));
  }
  Result<const float*> read(const float* data, int64_t) override { return data; }

 private:
  Block block_;  // [arena | tables of the frame]
  size_t arena_bytes_;
};

}  // namespace

size_t ExecBackend::table_bytes(const Program& program, const BackendLimits& limits, Device device) {
  return device == Device::cpu ? Frame::bytes(program, limits.rows) : device_backend_bytes(program, limits);
}

Result<std::unique_ptr<ExecBackend>> ExecBackend::create(const ExecModel& model, const BackendLimits& limits,
                                                         size_t arena_bytes) {
  if (model.device) return create_device_backend(model, limits, arena_bytes);
  KVASS_ASSIGN_OR_RETURN(Block block, Block::map(arena_bytes + Frame::bytes(model.program, limits.rows), "arena"));
  return std::unique_ptr<ExecBackend>(std::make_unique<CpuBackend>(std::move(block), arena_bytes));
}

}  // namespace kvass
