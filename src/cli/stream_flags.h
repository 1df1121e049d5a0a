// The flags of a stream, which every command that has one takes under the same names. Texts until they are all there:
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
  void add_memory_limit(CLI::App& command);                        // for the commands that hold their plan against it
  void add_sequences(CLI::App& command, const std::string& text);  // for the commands that run several together
  bool context_given() const { return context_given_ && context_given_->count() > 0; }
  bool sequences_given() const { return sequences_given_ && sequences_given_->count() > 0; }
  // What is not given is as in `defaults`: those of the model's file (app/open.h).
  Result<StreamOptions> resolve(const StreamOptions& defaults = {}) const;
  // For a stream of these caches and this arithmetic that goes on: flags that are given must say the same.
  Status check_resumed(const CacheOptions& caches, Math math) const;

 private:
  int64_t context_ = 0;
  const CLI::Option* context_given_ = nullptr;
  std::string attention_sink_;
  const CLI::Option* sink_given_ = nullptr;
  bool endless_ = false;
  const CLI::Option* sink_positions_given_ = nullptr;
  const CLI::Option* kv_given_ = nullptr;
  const CLI::Option* math_given_ = nullptr;
  std::string sink_positions_ = std::string(sink_positions_name(StreamOptions().positions()));
  int64_t chunk_ = 0;
  const CLI::Option* chunk_given_ = nullptr;
  std::string kv_ = std::string(dtype_name(StreamOptions().storage()));
  std::string math_ = std::string(math_name(StreamOptions().arithmetic()));
  int threads_ = 0;
  bool pin_ = true;
  int64_t sequences_ = 1;
  const CLI::Option* sequences_given_ = nullptr;
  std::string memory_limit_;
  const CLI::Option* memory_limit_given_ = nullptr;
};

// Says so if the context is above what the model was trained for, or if sinks leave it without effect.
void warn_of_context(const CacheOptions& caches, int64_t trained);

}  // namespace kvass
