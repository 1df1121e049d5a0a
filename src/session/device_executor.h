// The executor of devices: an op of a program is one or a few launches on a stream of its own. What a step's ops share
// is brought over when the step begins; a step and a head return when the device has done them.
#pragma once

#include <cstddef>
#include <memory>

#include "kvass/status.h"
#include "session/executor.h"

namespace kvass {

// An error where the program has an op that devices have not: encoders, and what reads what they left.
Status check_device_program(const Program& program);

// For an engine that runs on a device.
Result<std::unique_ptr<Executor>> create_device_executor(const Engine& engine, const SessionOptions& options,
                                                         size_t arena_bytes);

// Bytes of the device's memory that it takes beside the arena.
size_t device_executor_bytes(const Program& program, const SessionOptions& options);

}  // namespace kvass
