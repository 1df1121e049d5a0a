// The parts of the extension module kvass._core. The binding is thin: it turns Python's arguments into the library's
// and its errors into exceptions, and decides nothing.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "kvass/model.h"

namespace kvass::python {

void add_ops(nanobind::module_& module);
void add_caches(nanobind::module_& module);
void add_generation(nanobind::module_& module);
void add_sequence(nanobind::module_& module);
void add_engine(nanobind::module_& module);
void add_speech(nanobind::module_& module);

// A model that is of this kind; another is refused before its weights are read. Without the GIL.
Result<Model> load_model(const std::string& path, ModelKind kind, const LoadOptions& options);

}  // namespace kvass::python
