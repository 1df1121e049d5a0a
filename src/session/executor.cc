#include "session/executor.h"

#include <utility>
#include <vector>

#include "base/block.h"
#include "session/device_executor.h"

namespace kvass {
namespace {

class CpuExecutor : public Executor {
 public:
  CpuExecutor(Block block, size_t arena_bytes, int64_t head_rows, Isa isa)
      : block_(std::move(block)),
        arena_bytes_(arena_bytes),
        argmax_(argmax_for(isa)),
        likeliest_(static_cast<size_t>(head_rows)) {}

  uint8_t* arena() override { return block_.data(); }
  uint8_t* tables() override { return block_.data() + arena_bytes_; }
  size_t bytes() const override { return block_.bytes(); }
  void run(const StepContext& context, const Op& op, size_t index) override { execute_op(context, op, index); }
  Result<const float*> read(const float* data, int64_t) override { return data; }
  Result<const Argmax*> argmax(const float* data, int64_t rows, int64_t n, ThreadPool& pool) override {
    pool.run(rows, [&](int64_t row, int) { likeliest_[static_cast<size_t>(row)] = argmax_(data + row * n, n); });
    return likeliest_.data();
  }

 private:
  Block block_;  // [arena | tables]
  size_t arena_bytes_;
  ArgmaxKernel argmax_;
  std::vector<Argmax> likeliest_;  // [head rows]
};

}  // namespace

size_t Executor::table_bytes(const Program& program, const SessionOptions& options, Device device) {
  return device == Device::cpu ? StepTables::bytes(program, options) : device_executor_bytes(program, options);
}

Result<std::unique_ptr<Executor>> Executor::create(const Engine& engine, const SessionOptions& options,
                                                   size_t arena_bytes) {
  if (engine.device()) return create_device_executor(engine, options, arena_bytes);
  KVASS_ASSIGN_OR_RETURN(Block block, Block::map(arena_bytes + StepTables::bytes(engine.program(), options)));
  return std::unique_ptr<Executor>(
      std::make_unique<CpuExecutor>(std::move(block), arena_bytes, options.head_rows, engine.isa()));
}

}  // namespace kvass
