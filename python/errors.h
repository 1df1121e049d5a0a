// The library's errors as exceptions: one place. The type follows from the code (docs/python.md).
#pragma once

#include <nanobind/nanobind.h>

#include <utility>

#include "kvass/status.h"

namespace kvass::python {

// With the GIL. The message names keyword arguments in place of fields.
[[noreturn]] void raise(const Status& status);
inline void check(const Status& status) {
  if (!status.ok()) raise(status);
}
template <class T>
T value_of(Result<T> result) {
  check(result.status());
  return std::move(result).value();
}

// kvass.Busy: a second thread at `what`.
[[noreturn]] void raise_busy(const char* what);

void add_errors(nanobind::module_& module);

}  // namespace kvass::python
