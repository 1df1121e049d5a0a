#include "module.h"

#include "kvass/version.h"

NB_MODULE(_core, module) {
  module.attr("__version__") = KVASS_VERSION;
  kvass::python::add_ops(module);
  kvass::python::add_caches(module);
  kvass::python::add_engine(module);
  kvass::python::add_speech(module);
}
