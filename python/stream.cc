#include "stream.h"

#include <nanobind/stl/string.h>

#include <limits>

#include "tensors.h"

namespace kvass::python {

TokenArgument::TokenArgument(nb::handle from, bool special) : special_(special) {
  if (from.is_none()) return;
  if (nb::isinstance<nb::str>(from)) {
    text_ = nb::cast<std::string>(from);
    return;
  }
  for (const int64_t id : integers(from, "tokens")) {
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      check(bad_input("token", "an id of the vocabulary", std::to_string(id)));
    }
    ids_.push_back(static_cast<int32_t>(id));
  }
}

Result<std::vector<int32_t>> TokenArgument::ids(const Stream& stream) const {
  if (!text_) return ids_;
  EncodeTextOptions options;
  options.parse_special = special_;
  if (stream.length() > 0) options.bos = false;
  return stream.model().encode(*text_, options);
}

}  // namespace kvass::python
