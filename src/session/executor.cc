#include "session/executor.h"

#include <utility>
#include <vector>

#include "base/block.h"
#include "ops/linear/likeliest.h"
#include "session/device_executor.h"

namespace kvass {
namespace {

class CpuExecutor : public Executor {
 public:
  CpuExecutor(Block block, size_t arena_bytes, size_t table_bytes, int64_t head_rows, Isa isa)
      : block_(std::move(block)),
        arena_bytes_(arena_bytes),
        argmax_(argmax_for(isa)),
        argmax_of_rows_(static_cast<size_t>(head_rows)) {
    likeliest_.scratch = tables() + table_bytes;
  }

  uint8_t* arena() override { return block_.data(); }
  uint8_t* tables() override { return block_.data() + arena_bytes_; }
  size_t bytes() const override { return block_.bytes(); }
  void run(const StepContext& context, const Op& op, size_t index) override { execute_op(context, op, index); }
  Result<const float*> read(const float* data, int64_t) override { return data; }
  LikeliestLogit* likeliest() override {
    likeliest_.found = false;
    return &likeliest_;
  }
  Result<const Argmax*> argmax(const float* data, int64_t rows, int64_t n, ThreadPool& pool) override {
    pool.run(rows, [&](int64_t row, int) { argmax_of_rows_[static_cast<size_t>(row)] = argmax_(data + row * n, n); });
    return argmax_of_rows_.data();
  }

 private:
  Block block_;  // [arena | tables | scratch of the likeliest logit]
  size_t arena_bytes_;
  ArgmaxKernel argmax_;
  std::vector<Argmax> argmax_of_rows_;  // [head rows]
  LikeliestLogit likeliest_;
};

size_t likeliest_scratch_bytes(const Program& program) {
  const WeightId head = program.head_weight();
  if (head == kNone) return 0;
  const Weight& weight = program.weights[static_cast<size_t>(head)];
  return likeliest_bytes(weight.outputs, weight.inputs);
}

}  // namespace

size_t Executor::table_bytes(const Program& program, const SessionOptions& options, Device device) {
  if (device != Device::cpu) return device_executor_bytes(program, options);
  return StepTables::bytes(program, options) + likeliest_scratch_bytes(program);
}

Result<std::unique_ptr<Executor>> Executor::create(const Engine& engine, const SessionOptions& options,
                                                   size_t arena_bytes) {
  if (engine.device()) return create_device_executor(engine, options, arena_bytes);
  const Program& program = engine.program();
  KVASS_ASSIGN_OR_RETURN(Block block, Block::map(arena_bytes + table_bytes(program, options, Device::cpu), "arena"));
  return std::unique_ptr<Executor>(std::make_unique<CpuExecutor>(
      std::move(block), arena_bytes, StepTables::bytes(program, options), options.head_rows, engine.isa()));
}

}  // namespace kvass
