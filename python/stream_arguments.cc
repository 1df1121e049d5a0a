#include "stream_arguments.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include "tensors.h"

namespace kvass::python {
namespace {

template <class T>
T value_as(nb::handle value, const std::string& key, const char* expected) {
  T result;
  if (!nb::try_cast(value, result)) {
    const std::string got = nb::cast<std::string>(nb::str(nb::getattr(value.type(), "__name__")));
    throw nb::type_error((key + ": expected " + expected + ", got " + got).c_str());
  }
  return result;
}

}  // namespace

StreamOptions stream_arguments(const nb::kwargs& options, StreamOptions base) {
  for (const auto& [name, value] : options) {
    const std::string key = nb::cast<std::string>(name);
    if (value.is_none()) continue;
    if (key == "context") {
      base.context = value_as<int64_t>(value, key, "tokens");
    } else if (key == "chunk") {
      base.chunk = value_as<int64_t>(value, key, "tokens");
    } else if (key == "attention_sink") {
      const auto [sinks, window] = value_as<std::pair<int64_t, int64_t>>(value, key, "a pair (sinks, window)");
      if (sinks < 0 || window < 1) {
        check(bad_input(key, "(sinks >= 0, window >= 1)",
                        "(" + std::to_string(sinks) + ", " + std::to_string(window) + ")"));
      }
      base.attention_sink = AttentionSink{sinks, window};
      base.context.reset();
    } else if (key == "endless") {
      base.endless = value_as<bool>(value, key, "True or False");
    } else if (key == "sink_positions") {
      base.sink_positions = value_of(parse_sink_positions(value_as<std::string>(value, key, "a name")));
    } else if (key == "kv") {
      base.kv = value_of(parse_dtype(value_as<std::string>(value, key, "a name")));
    } else if (key == "threads") {
      base.threads = value_as<int>(value, key, "a number");
    } else if (key == "memory_limit") {
      base.memory_limit = value_as<size_t>(value, key, "bytes");
    } else {
      throw nb::type_error((key + ": expected context, chunk, attention_sink, endless, sink_positions, kv, threads or "
                                  "memory_limit")
                               .c_str());
    }
  }
  return base;
}

}  // namespace kvass::python
