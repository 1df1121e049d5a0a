#include "errors.h"

#include <string>

#include "fields.h"
#include "kvass/fields.h"
#include "module.h"

namespace kvass::python {
namespace {

// The exceptions of kvass itself, alive as long as the interpreter.
PyObject* g_busy = nullptr;
PyObject* g_cache_full = nullptr;
PyObject* g_device = nullptr;
PyObject* g_cancelled = nullptr;
PyObject* g_unsupported = nullptr;

PyObject* type_of(StatusCode code) {
  switch (code) {
    case StatusCode::bad_input:
      return PyExc_ValueError;
    case StatusCode::busy:
      return g_busy;
    case StatusCode::cache_full:
      return g_cache_full;
    case StatusCode::out_of_memory:
      return PyExc_MemoryError;
    case StatusCode::io:
      return PyExc_OSError;
    case StatusCode::device:
      return g_device;
    case StatusCode::cancelled:
      return g_cancelled;
    case StatusCode::unsupported:
      return g_unsupported;
    case StatusCode::ok:
    case StatusCode::internal:
      break;
  }
  return PyExc_RuntimeError;
}

PyObject* add_type(nanobind::module_& module, const char* name, const char* about, PyObject* base) {
  const std::string full = std::string("kvass.") + name;
  PyObject* type = PyErr_NewExceptionWithDoc(full.c_str(), about, base, nullptr);
  if (type == nullptr) throw nanobind::python_error();
  module.attr(name) = nanobind::borrow(type);
  return type;
}

}  // namespace

std::string message_of(const Status& status) { return translate_fields(status.message(), keyword_of); }

void raise(const Status& status) {
  const std::string text = message_of(status);
  // A name of a file may be no UTF-8.
  PyObject* message = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (message != nullptr) {
    PyErr_SetObject(type_of(status.code()), message);
    Py_DECREF(message);
  }
  throw nanobind::python_error();
}

Claim::Claim(std::atomic_flag& flag, const char* what) : flag_(flag) {
  if (!flag.test_and_set(std::memory_order_acquire)) return;
  raise(Status::error(StatusCode::busy, expected_message(what, "one caller at a time", "a second one")));
}

void add_errors(nanobind::module_& module) {
  g_busy = add_type(module, "Busy", "Another thread is using the object; nothing has happened.", PyExc_RuntimeError);
  g_cache_full = add_type(module, "CacheFull", "The stream has no room for the tokens.", PyExc_ValueError);
  g_device = add_type(module, "DeviceError", "A device or its driver failed.", PyExc_RuntimeError);
  g_cancelled = add_type(module, "Cancelled", "The call was asked to stop.", PyExc_RuntimeError);
  g_unsupported = add_type(module, "Unsupported", "A sound file or request that kvass does not implement.",
                           PyExc_NotImplementedError);
}

}  // namespace kvass::python
