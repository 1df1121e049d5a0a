// Public calls do not throw: what the standard library or a caller's function throws becomes a Status.
#pragma once

#include <exception>
#include <new>
#include <utility>

#include "kvass/status.h"

namespace kvass {

// body() returns a Status or a Result. A message that allocates could fail again, so that of no memory is short.
template <class Body>
auto guarded(Body&& body) noexcept -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Status::error(StatusCode::out_of_memory, "out of memory");
  } catch (const std::exception& error) {
    try {
      return Status::error(StatusCode::internal, error.what());
    } catch (...) {
      return Status::error(StatusCode::out_of_memory, "out of memory");
    }
  } catch (...) {
    return Status::error(StatusCode::internal, "exception");
  }
}

}  // namespace kvass
