// Public calls do not throw: what the standard library or a caller's function throws becomes a Status. Its message
// names the fields of the structs that the call takes.
#pragma once

#include <exception>
#include <new>
#include <utility>

#include "api/public_fields.h"
#include "kvass/status.h"

namespace kvass {

inline const Status& status_of(const Status& status) { return status; }
template <class T>
const Status& status_of(const Result<T>& result) {
  return result.status();
}

// body() returns a Status or a Result. A message that allocates could fail again, so that of no memory is short.
template <class Body>
auto guarded(OptionStructs structs, Body&& body) noexcept -> decltype(body()) {
  try {
    auto result = body();
    if (status_of(result).ok()) return result;
    return with_public_fields(status_of(result), structs);
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

// Of a call on a stream, or of one that opens it.
template <class Body>
auto guarded(Body&& body) noexcept -> decltype(body()) {
  return guarded({"StreamOptions"}, std::forward<Body>(body));
}

}  // namespace kvass
