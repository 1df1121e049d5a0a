// A stream's options as keyword arguments: the flags of the command line under the same names.
#pragma once

#include <nanobind/nanobind.h>

#include "app/stream_options.h"

namespace kvass::python {

// `options` over `base`. Keys: context, chunk, attention_sink (S, W), endless, sink_positions, kv, threads,
// memory_limit. TypeError for any other.
StreamOptions stream_arguments(const nanobind::kwargs& options, StreamOptions base);

}  // namespace kvass::python
