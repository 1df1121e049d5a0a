// Where a session's ops run: the memory that its values and tables lie in, and the ops over it. One executor for this
// machine's CPU, one for devices; the session hands it the ops of its program in order and knows no more of the
// machine. It owns the memory; caches are the sequences', weights the engine's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/argmax/argmax.h"
#include "kvass/status.h"
#include "session/step.h"

namespace kvass {

class Executor {
 public:
  // Memory for `arena_bytes` of values and workspaces and for the tables of such a session, for the engine's device.
  static Result<std::unique_ptr<Executor>> create(const Engine& engine, const SessionOptions& options,
                                                  size_t arena_bytes);
  // What it maps beside the arena, in the same memory.
  static size_t table_bytes(const Program& program, const SessionOptions& options, Device device);
  virtual ~Executor() = default;

  virtual uint8_t* arena() = 0;      // values and workspaces, where the ops run
  virtual uint8_t* tables() = 0;     // StepTables::bytes, where the session fills them in
  virtual size_t bytes() const = 0;  // arena and table_bytes
  // The tables of a step have been filled in; the rows of a head have.
  virtual Status begin(StepTables&) { return {}; }
  virtual Status select(StepTables&) { return {}; }
  virtual void run(const StepContext& context, const Op& op, size_t index) = 0;
  // Every op so far has run; an error of one of them.
  virtual Status finish() { return {}; }
  // `floats` of the arena from `data` on as they are once every op so far has run. Valid until the next call.
  virtual Result<const float*> read(const float* data, int64_t floats) = 0;
  // Where the head's linear can leave the largest logit; null where it computes all. With `found` false.
  virtual LikeliestLogit* likeliest() { return nullptr; }
  // The same as `read` for kernels/argmax of `rows` rows of `n` floats there; at most the session's head rows.
  virtual Result<const Argmax*> argmax(const float* data, int64_t rows, int64_t n, ThreadPool& pool) = 0;
};

}  // namespace kvass
