// Who wants to know how far a long job has come.
#pragma once

#include <cstddef>
#include <functional>

namespace kvass {

// Called between the pieces of a job, on its own thread: bytes that are done, and all. Empty: nobody.
using OnProgress = std::function<void(size_t done, size_t total)>;

}  // namespace kvass
