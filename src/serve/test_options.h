// The options of a small server for tests and fuzz targets.
#pragma once

#include "serve/server.h"

namespace kvass::testing {

inline serve::ServeOptions small_server() {
  serve::ServeOptions options;
  options.port = 0;
  options.log = false;
  options.streams.context = 256;
  options.streams.chunk = 24;
  options.streams.threads = 2;
  options.streams.sequences = 3;
  options.streams.checkpoints = 2;
  options.prefixes = 2;
  options.sessions = 2;
  options.session_sinks = 100;
  options.drain_seconds = 5.0;
  return options;
}

}  // namespace kvass::testing
