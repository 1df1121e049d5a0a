// --save, --save-every and --resume: a stream of `run` or a conversation of `chat` that ends in a snapshot, or begins
// in one.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "app/generate.h"

namespace kvass {

class SnapshotFlags {
 public:
  void add(CLI::App& command);
  void add_every(CLI::App& command);

  bool saves() const { return !save_.empty(); }
  const std::string& save_path() const { return save_; }
  // What can be said before anything is loaded: that the flags fit together and that the place takes a file.
  Status check() const;
  // The snapshot of --resume, verified; none without the flag.
  Result<std::optional<Snapshot>> resumed() const;
  // Makes the generation keep its state, and save `sequence` with it now and then; both outlive the generation. A save
  // that fails on the way is said, and the next one is another try.
  void arrange(DecodeOptions& options, const Sequence& sequence) const;

 private:
  std::string save_;
  std::string resume_;
  int64_t every_ = 0;
  const CLI::Option* every_given_ = nullptr;  // null: the command has no --save-every
};

}  // namespace kvass
