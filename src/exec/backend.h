// Where ops run: the memory that values and tables lie in, and the ops over it. One backend for this machine's CPU, one
// for devices; the interpreter hands it the ops in order and knows nothing else of the machine. It owns the memory;
// caches are the sequences', weights the engine's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "exec/context.h"
#include "kvass/status.h"

namespace kvass {

struct BackendLimits {
  RowLimits rows;
  int64_t keys = 0;  // on a device: most keys that the rows of a run see between them
};

class ExecBackend {
 public:
  // Memory for `arena_bytes` of values and workspaces and for the tables of such steps, for the model's device. The
  // model outlives it.
  static Result<std::unique_ptr<ExecBackend>> create(const ExecModel& model, const BackendLimits& limits,
                                                     size_t arena_bytes);
  // What it maps beside the arena, in the same memory.
  static size_t table_bytes(const Program& program, const BackendLimits& limits, Device device);
  virtual ~ExecBackend() = default;

  virtual uint8_t* arena() = 0;         // values and workspaces, where the ops run
  virtual uint8_t* frame_memory() = 0;  // Frame::bytes, of this machine
  virtual size_t bytes() const = 0;     // arena and table_bytes
  // The frame of a step has begun; the rows of a head are selected. On an error no op may run.
  virtual Status begin(Frame&) { return {}; }
  virtual Status select(Frame&) { return {}; }
  virtual void run(const ExecContext& context, const Op& op, size_t index) = 0;
  // Every op so far has run; an error of one of them.
  virtual Status finish() { return {}; }
  // `floats` of the arena from `data` on as they are once every op so far has run. Valid until the next call.
  virtual Result<const float*> read(const float* data, int64_t floats) = 0;
};

}  // namespace kvass
