// The backend of devices: an op of a program is one or a few launches on a stream of its own. What a step's ops share
// is brought over when the step begins; a step returns when the device has done it.
#pragma once

#include <cstddef>
#include <memory>

#include "exec/backend.h"
#include "kvass/status.h"

namespace kvass {

// An error where the program has an op that devices have not (program/ops.inc): encoders, and what reads their output.
Status check_device_program(const Program& program);

// For a model that lies on a device.
Result<std::unique_ptr<ExecBackend>> create_device_backend(const ExecModel& model, const BackendLimits& limits,
                                                           size_t arena_bytes);

// Bytes of the device's memory that it takes beside the arena.
size_t device_backend_bytes(const Program& program, const BackendLimits& limits);

}  // namespace kvass
