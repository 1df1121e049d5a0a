// --save, --save-every and --resume: a stream of `run` or a conversation of `chat` that ends in a snapshot, or begins
// in one.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "app/generate.h"
#include "base/new_file.h"

namespace kvass {

class SnapshotFlags {
 public:
  void add(CLI::App& command);
  void add_every(CLI::App& command);

  bool saves() const { return !save_.empty(); }
  const std::string& save_path() const { return save_; }
  // What can be said before anything is loaded: that the flags fit together, that the place takes a snapshot, and that
  // nobody else saves there. From then on the place is this process's. `json`: the text comes at the end, as JSON.
  Status check(bool json);
  // Saves the stream as it is.
  Status save(const Sequence& sequence, const StreamState& state) const;
  // The snapshot of --resume, verified; none without the flag.
  Result<std::optional<Snapshot>> resumed() const;
  // Makes the generation keep its state, in which text that stdout has not taken comes first, and save `sequence` with
  // it now and then; both outlive the generation. A save that fails on the way is said, and the next one is another
  // try.
  void arrange(DecodeOptions& options, const Sequence& sequence) const;

 private:
  std::string save_;
  std::string resume_;
  std::optional<FileLock> lock_;  // of save_
  int64_t every_ = 0;
  const CLI::Option* every_given_ = nullptr;  // null: the command has no --save-every
};

}  // namespace kvass
