#include "paths.h"

#include "errors.h"

namespace kvass::python {

bool Path::take(nanobind::handle from) {
  PyObject* name = PyOS_FSPath(from.ptr());
  if (name == nullptr) {
    PyErr_Clear();
    return false;
  }
  name_ = nanobind::steal(name);
  return PyUnicode_Check(name);
}

std::string Path::text() const {
  PyObject* encoded = nullptr;
  if (PyUnicode_FSConverter(name_.ptr(), &encoded) == 0) {
    PyErr_Clear();
    check(bad_input("path", "a name without null characters that the file system can encode", "another"));
  }
  const nanobind::object held = nanobind::steal(encoded);
  return PyBytes_AsString(encoded);
}

}  // namespace kvass::python
