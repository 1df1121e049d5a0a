#include "module.h"

#include "errors.h"
#include "kvass/version.h"

NB_MODULE(_core, module) {
  nanobind::set_leak_warnings(false);  // whoever ends while something is held, a test runner say, is no leak of ours
  module.attr("__version__") = KVASS_VERSION;
  kvass::python::add_errors(module);
  kvass::python::add_ops(module);
  kvass::python::add_caches(module);
  kvass::python::add_generation(module);
  kvass::python::add_sequence(module);
  kvass::python::add_engine(module);
  kvass::python::add_speech(module);
}
