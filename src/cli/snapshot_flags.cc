#include "cli/snapshot_flags.h"

#include <utility>

#include "cli/command.h"
#include "cli/fields.h"

namespace kvass {
namespace {

constexpr char kGroup[] = "Snapshots";

}  // namespace

void SnapshotFlags::add(CLI::App& command) {
  command
      .add_option("--save", save_,
                  "Save the stream when it ends, also by Ctrl-C or SIGTERM; the file is the old or the new\n"
                  "snapshot at any instant")
      ->type_name("FILE")
      ->group(kGroup);
  command
      .add_option("--resume", resume_,
                  "Go on from a snapshot of this model; its stream and sampling flags need not be given again")
      ->type_name("FILE")
      ->group(kGroup);
}

void SnapshotFlags::add_every(CLI::App& command) {
  every_given_ = command
                     .add_option(flags_of("GenerateOptions.save_every"), every_,
                                 "With --save: also after every N generated tokens")
                     ->type_name("N")
                     ->group(kGroup);
}

Status SnapshotFlags::check(bool json) {
  if (every_given_ != nullptr && every_given_->count() > 0) {
    if (!saves()) return bad_input("--save-every", "--save FILE beside it", "none");
    if (every_ < 1) return bad_input("--save-every", "at least 1 token", std::to_string(every_));
    if (json) return bad_input("--save-every", "text that comes while it is generated", "--json, at the end");
  }
  if (!saves()) return {};
  if (save_ == "-" || is_stdout(save_)) return bad_input("--save", "a file beside the text's", "stdout itself");
  KVASS_RETURN_IF_ERROR(check_snapshot_path(save_));
  KVASS_ASSIGN_OR_RETURN(FileLock lock, FileLock::acquire(save_));
  lock_.emplace(std::move(lock));
  if (!lock_->warning().empty()) say("kvass: warning: {}\n", one_line(lock_->warning()));
  return {};
}

Status SnapshotFlags::save(const Sequence& sequence, const StreamState& state) const {
  return save_snapshot(sequence, state, save_, lock_ ? &*lock_ : nullptr);
}

Result<std::optional<Snapshot>> SnapshotFlags::resumed() const {
  if (resume_.empty()) return std::optional<Snapshot>();
  KVASS_ASSIGN_OR_RETURN(Snapshot snapshot, Snapshot::open(resume_));
  return std::optional<Snapshot>(std::move(snapshot));
}

void SnapshotFlags::arrange(DecodeOptions& options, const Sequence& sequence) const {
  if (!saves()) return;
  options.keep_state = true;
  options.undelivered = undelivered_stdout;
  options.save_every = every_;
  options.on_state = [this, &sequence](const StreamState& state) {
    const Status saved = save(sequence, state);
    if (!saved.ok()) say("kvass: not saved: {}; next try after {} tokens\n", shown_message(saved), every_);
  };
}

}  // namespace kvass
