// The library's errors as exceptions: one place. The type follows from the code (docs/python.md).
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <string>
#include <utility>

#include "kvass/status.h"

namespace kvass::python {

// The message with keyword arguments in place of fields.
std::string message_of(const Status& status);

// With the GIL.
[[noreturn]] void raise(const Status& status);
inline void check(const Status& status) {
  if (!status.ok()) raise(status);
}
inline void value_of(const Status& status) { check(status); }
template <class T>
T value_of(Result<T> result) {
  check(result.status());
  return std::move(result).value();
}

// One caller at a time: kvass.Busy for a second one at `what`, who does not wait and changes nothing.
class Claim {
 public:
  Claim(std::atomic_flag& flag, const char* what);
  ~Claim() { flag_.clear(std::memory_order_release); }
  Claim(const Claim&) = delete;

 private:
  std::atomic_flag& flag_;
};

void add_errors(nanobind::module_& module);

}  // namespace kvass::python
