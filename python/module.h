// The parts of the extension module kvass._core. The binding is thin: it turns Python's arguments into the library's
// and its errors into exceptions, and decides nothing.
#pragma once

#include <nanobind/nanobind.h>

namespace kvass::python {

void add_ops(nanobind::module_& module);
void add_caches(nanobind::module_& module);
void add_engine(nanobind::module_& module);
void add_speech(nanobind::module_& module);

}  // namespace kvass::python
