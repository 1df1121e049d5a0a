#include "session/executor.h"

#include <utility>

#include "base/block.h"

namespace kvass {
namespace {

class CpuExecutor : public Executor {
 public:
  CpuExecutor(Block block, size_t arena_bytes) : block_(std::move(block)), arena_bytes_(arena_bytes) {}

  uint8_t* arena() override { return block_.data(); }
  uint8_t* tables() override { return block_.data() + arena_bytes_; }
  size_t bytes() const override { return block_.bytes(); }
  void run(const StepContext& context, const Op& op, size_t index) override { execute_op(context, op, index); }
  Result<const float*> read(const float* data, int64_t) override { return data; }

 private:
  Block block_;  // [arena | tables]
  size_t arena_bytes_;
};

}  // namespace

Result<std::unique_ptr<Executor>> Executor::create(const Engine& engine, const SessionOptions& options,
                                                   size_t arena_bytes) {
  KVASS_ASSIGN_OR_RETURN(Block block, Block::map(arena_bytes + StepTables::bytes(engine.program(), options)));
  return std::unique_ptr<Executor>(std::make_unique<CpuExecutor>(std::move(block), arena_bytes));
}

}  // namespace kvass
