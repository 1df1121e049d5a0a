// Names of files as arguments: a str, or what has one for os.fspath().
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace kvass::python {

class Path {
 public:
  // False: it is no name of a file.
  bool take(nanobind::handle from);
  // In the file system's encoding. ValueError for one with a null character, which C would end it at.
  std::string text() const;

 private:
  nanobind::object name_;
};

}  // namespace kvass::python

namespace nanobind::detail {

template <>
struct type_caster<kvass::python::Path> {
  NB_TYPE_CASTER(kvass::python::Path, const_name("str | os.PathLike[str]"))
  bool from_python(handle from, uint32_t, cleanup_list*) noexcept { return value.take(from); }
  static handle from_cpp(const kvass::python::Path&, rv_policy, cleanup_list*) noexcept = delete;
};

}  // namespace nanobind::detail
