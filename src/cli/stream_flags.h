// The flags of a stream, which run, plan, score and bench take under the same names. Texts until they are all there:
// what they mean, and what is wrong with one, is app/stream_options.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "app/stream_options.h"
#include "kvass/status.h"

namespace kvass {

class StreamFlags {
 public:
  void add(CLI::App& command);
  Result<StreamOptions> resolve() const;

 private:
  int64_t context_ = 0;
  const CLI::Option* context_given_ = nullptr;
  std::string attention_sink_;
  const CLI::Option* sink_given_ = nullptr;
  bool endless_ = false;
  int64_t chunk_ = StreamOptions().chunk;
  std::string kv_ = std::string(dtype_name(StreamOptions().kv));
  std::string math_ = std::string(math_name(StreamOptions().math));
  int threads_ = 0;
};

}  // namespace kvass
